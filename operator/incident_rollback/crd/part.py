"""What every piece of our resources has in common."""

from pydantic import BaseModel
from pydantic.alias_generators import to_camel


class Part(
    BaseModel,
    frozen=True,
    alias_generator=to_camel,
    populate_by_name=True,
    use_attribute_docstrings=True,
    extra="ignore",
):
    """
    A piece of a resource: camelCase on the wire, snake_case here.

    Unknown fields are ignored, for the API server has pruned them already and a
    newer version of the schema must not stop an older controller.
    """
