"""Every setting, its unit, bounds and default; read once from the environment, then frozen."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, HttpUrl, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from incident_rollback.errors import SettingsError

PREFIX: Final = "INCIDENT_ROLLBACK_"
DEFAULT_NAMESPACE: Final = "incident-rollback"
SERVICE_ACCOUNT_DIR: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Port = Annotated[int, Field(ge=1, le=65_535)]


class Settings(BaseSettings):
    """Environment variables `INCIDENT_ROLLBACK_*`, and `KUBECONFIG` outside a cluster."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore"
    )

    namespace: str = ""
    """The home namespace; absent: the mounted ServiceAccount's, else `incident-rollback`."""
    firehydrant_url: HttpUrl = HttpUrl("https://api.firehydrant.io/v1")
    """FireHydrant's API; the EU instance is https://api.eu.firehydrant.io/v1."""
    firehydrant_api_key_file: Path | None = None
    """A file that holds the API key; absent: nothing is told to FireHydrant."""
    hmac_secrets_dir: Path | None = None
    """A folder with one HMAC secret a file; the bridge accepts each, and re-reads them."""
    bridge_host: str = "0.0.0.0"  # noqa: S104  # a pod's only address
    """Where the bridge listens."""
    bridge_port: Port = 8080
    """The bridge's port."""
    ops_host: str = "0.0.0.0"  # noqa: S104  # a pod's only address
    """Where /livez, /readyz and /metrics listen."""
    ops_port: Port = 8081
    """Their port."""
    leader_elect: bool = True
    """Whether controllers agree by a Lease who leads; false only where there is one of them."""
    log_format: Literal["json", "text"] = "json"
    """One JSON object a line, or text for people."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""

    @field_validator("namespace", mode="after")
    @classmethod
    def _home(cls, given: str) -> str:
        mounted = SERVICE_ACCOUNT_DIR / "namespace"
        if given:
            return given
        return mounted.read_text().strip() if mounted.is_file() else DEFAULT_NAMESPACE

    @field_validator("firehydrant_api_key_file", mode="after")
    @classmethod
    def _is_there(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"{path} is not a file")
        return path


def read_settings() -> Settings:
    """
    Read the settings from the environment.

    Raises SettingsError with one line that names each wrong variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = (
            f"{PREFIX}{str(problem['loc'][0]).upper()}: {problem['msg']}"
            for problem in error.errors()
        )
        raise SettingsError("; ".join(wrong)) from error
