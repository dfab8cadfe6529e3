"""What the cluster says may be repeated; what it quotes, often not."""

import pytest

from incident_rollback.domain.messages import MAX_MESSAGE, MAX_READ, own_words, safe

NO_SECRETS = [
    pytest.param(
        'Head "https://user:hunter2@registry.example.com/v2/": EOF',
        'Head "https://registry.example.com/v2/": EOF',
        id="user and password in a URL",
    ),
    pytest.param(
        "https://user:hunter2/hunter2@host/x", "https://host/x", id="a password with a slash in it"
    ),
    pytest.param(
        "dial root:hunter2@tcp(db:3306)/shop failed",
        "dial tcp(db:3306)/shop failed",
        id="user and password without a scheme",
    ),
    pytest.param(
        'Get "https://auth.example.com/token?account=shop&sig=hunter2": 503',
        'Get "https://auth.example.com/token": 503',
        id="the query of a URL",
    ),
    pytest.param(
        "GET /token?account=shop&sig=hunter2 failed", "GET /token failed", id="of a path alone"
    ),
    pytest.param("Get https://s3/x?hunter2 failed", "Get https://s3/x failed", id="of one word"),
    pytest.param("see https://h/#access_token=hunter2", "see https://h/", id="and its fragment"),
    pytest.param("Authorization: Bearer hunter2hunter2", "Authorization: Bearer …", id="a token"),
    pytest.param("got eyJhbGciOi.eyJzdWIi.c2ln back", "got … back", id="a signed token"),
    pytest.param(
        "mount -o username=shop,password=hunter2,vers=3 //nas/shop",
        "mount -o username=shop,password=…,vers=3 //nas/shop",
        id="what is called a password",
    ),
    *(
        pytest.param(message, told, id=f"what is called a secret: {message}")
        for message, told in (
            ("app --db-password hunter2 --x", "app --db-password … --x"),
            ('exec: "app -token hunter2": no', 'exec: "app -token … no'),
            ("run [--api-key, hunter2] no", "run [--api-key, … no"),
            ('run ["--api-key", "hunter2"] no', 'run ["--api-key", …] no'),
            ("--use-token --db-password hunter2", "--use-token --db-password …"),
            ('{"password":"hunter2","user":"a"}', '{"password":…,"user":"a"}'),
            (r"{\"password\": \"hunter2\"} no", r"{\"password\": …} no"),
            (r'{"token":"a\"hunter2"} no', '{"token":…} no'),
            ("{'dbPassword': 'hunter2'}", "{'dbPassword': …}"),
            ('{"credentials":{"a":"hunter2"}}', '{"credentials":…}}'),
            ("db_password: hunter2, next", "db_password: …, next"),
            ("AWS_SECRET_ACCESS_KEY: hunter2/K7", "AWS_SECRET_ACCESS_KEY: …"),
            ("x-api-key:hunter2 no", "x-api-key:… no"),
            ("the password hunter2 is wrong", "the password … is wrong"),
            ("Authorization: Token hunter2", "Authorization: Token …"),
            ("DB_PASSWORD='my hunter2 pw' failed", "DB_PASSWORD=… failed"),
            ('password="my hunter2', "password=…"),
            ("opts=a:password=hunter2", "opts=a:password=…"),
        )
    ),
    pytest.param(
        'Pod "a" is invalid: spec.containers[0].env[0].value: Invalid value: "hunter2": is long',
        'Pod "a" is invalid: spec.containers[0].env[0].value: Invalid value',
        id="the value that a field error quotes",
    ),
    pytest.param("two\n\tlines", "two lines", id="one line"),
    pytest.param(
        "x" * 30 + " " + "y " * 980 + "user:hunter2hunter2@host",
        ("x" * 30 + " " + "y " * 980)[:MAX_MESSAGE],
        id="what is cut is no half of a secret",
    ),
]


@pytest.mark.parametrize(("message", "told"), NO_SECRETS)
def test_no_secret_is_repeated(message: str, told: str) -> None:
    assert safe(message) == told
    assert "hunter2" not in safe(message)


KEPT = [
    pytest.param(
        'failed to pull "registry.example.com:5000/shop@sha256:0f0f": not found', id="a digest"
    ),
    pytest.param("exceeded quota: compute, requested: pods=1, used: pods=3", id="a quota"),
    pytest.param('secret "checkout-token" not found', id="the name of a Secret"),
    pytest.param("docker://registry.example.com/shop@sha256:0f0f", id="a digest behind a scheme"),
    pytest.param('MountVolume.SetUp failed for volume "a" : secret "x" not found', id="a Secret"),
    pytest.param("Secret db-password not found", id="a Secret that is called after what it holds"),
    pytest.param("failed to sync configmap/secret references", id="a Secret as a word"),
    pytest.param("references non-existent secret key: tls.key", id="an entry of a Secret"),
    pytest.param("couldn't find key db.url in Secret shop/db", id="an entry, in other words"),
    pytest.param(
        'failed to fetch anonymous token: Get "https://auth.example.com/token": dial tcp: lookup '
        "db-token: no such host",
        id="a registry's token, and a host that is called so",
    ),
    pytest.param(
        "failed to fetch oauth token: unexpected status from GET request to "
        "https://auth.example.com/token: 503 Service Unavailable",
        id="a registry that gives no token",
    ),
    pytest.param('pull "quay.io/keycloak/keycloak:26": not found', id="the tag of an image"),
    pytest.param('pull "keycloak:26": not found', id="of one that has no folder"),
    pytest.param(
        'pull "r.example.com/shop/db-token:1.2": not found', id="of one that is called so"
    ),
    pytest.param("pull access denied: no basic auth credentials", id="that there is no credential"),
    pytest.param("0/3 nodes are available: 3 Insufficient cpu.", id="numbers"),
    pytest.param("why? because", id="a question"),
]


@pytest.mark.parametrize("message", KEPT)
def test_what_is_no_secret_stays(message: str) -> None:
    assert safe(message) == message


def test_a_half_read_word_is_left_out_for_it_may_be_half_of_a_secret() -> None:
    message = f"a://{'u' * (MAX_READ - 20)}@h user:hunter2{'x' * 50}@host"
    assert safe(message) == "a://h"


def test_no_more_is_read_than_what_costs_no_time() -> None:
    assert safe(f"begins a://{'u' * MAX_READ}@h and goes on") == "begins"


TOLD = [
    pytest.param("ImagePullBackOff", "not found", "not found", id="of the kubelet"),
    pytest.param("FailedScheduling", "0/3 nodes", "0/3 nodes", id="of the scheduler"),
    pytest.param("OutOfcpu", "node has no cpu", "node has no cpu", id="of the kubelet's admission"),
    pytest.param("SyncedByIstio", "password hunter2", "", id="D10 of anybody: the reason alone"),
    pytest.param("Error", "the end of a log", "", id="of a program that ended"),
    pytest.param("PostStartHookError", 'message: "hunter2"', "", id="of a program in a hook"),
]


@pytest.mark.parametrize(("reason", "message", "told"), TOLD)
def test_whose_message_is_repeated(reason: str, message: str, told: str) -> None:
    assert own_words(reason, message) == told


PROBES = [
    pytest.param(
        "Readiness probe failed: HTTP probe failed with statuscode: 503",
        "Readiness probe failed: HTTP probe failed with statuscode: 503",
        id="the status code",
    ),
    pytest.param(
        'Readiness probe failed: Get "http://10.0.0.7/ready?key=hunter2": dial tcp 10.0.0.7:80: '
        "connect: connection refused",
        "Readiness probe failed: connection refused",
        id="why there was no answer",
    ),
    pytest.param(
        "Liveness probe failed: cannot log in with hunter2",
        "Liveness probe failed",
        id="never what a program wrote",
    ),
    pytest.param(
        'Startup probe errored and resulted in unknown state: exec: "hunter2"',
        "Startup probe errored",
        id="nor which program it was",
    ),
    pytest.param("hunter2", "", id="of nobody that is known"),
]


@pytest.mark.parametrize(("message", "told"), PROBES)
def test_of_a_probe_only_what_the_kubelet_says(message: str, told: str) -> None:
    assert own_words("Unhealthy", message) == told
