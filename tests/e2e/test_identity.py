"""Real servers over loopback TLS: who is let in by certificate, proxy or token, and what they are told."""

from __future__ import annotations

import time
from datetime import timedelta

import grpc
import pytest

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc, caller_pb2, task_pb2
from tests.fixtures.certificates import LIMITED, Authority
from tests.fixtures.processes import StartError
from tests.fixtures.rpc import reason_of
from tests.fixtures.secure import MIXED, RULES, RunningSite, SecureSite
from tests.fixtures.server import run_server_command
from tests.fixtures.tokens import ServedKeys, TokenIssuer

JANE = "/DC=org/DC=example/OU=People/CN=Jane Doe"


def refusal(site: SecureSite, target: str, **shown: object) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        site.who(target, **shown)  # type: ignore[arg-type]
    return reason_of(caught.value) or caught.value.code().name


def test_a_token_and_a_certificate_and_a_proxy_of_it_are_let_in(
    mixed_site: RunningSite, authority: Authority
) -> None:
    site, target = mixed_site.site, mixed_site.target
    caller = site.who(target, token=site.token(name="ann", scope="compute.read"))
    assert (caller.user, caller.method) == ("ann", caller_pb2.CALLER_METHOD_TOKEN)
    assert caller.rule == "people with tokens"
    assert list(caller.scopes) == ["compute.read"]
    assert caller.HasField("expire_time")
    jane = authority.person()
    for shown, is_limited in (
        (jane, False),
        (jane.proxy(), False),
        (jane.proxy().proxy(policy=LIMITED), True),
    ):
        caller = site.who(target, shown)
        assert (caller.user, caller.subject) == ("jane", JANE)
        assert caller.rule == "people with certificates"
        assert list(caller.roles) == [caller_pb2.CALLER_ROLE_USER]
        assert caller.limited is is_limited
    # A token goes before the certificate of the connection: it is the narrower of the two.
    both = site.who(target, jane, token=site.token(name="ann"))
    assert both.user == "ann"


def test_whoever_shows_nothing_is_told_what_to_show(mixed_site: RunningSite) -> None:
    site, target = mixed_site.site, mixed_site.target
    with pytest.raises(grpc.RpcError) as caught:
        site.who(target)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert reason_of(caught.value) == "CREDENTIALS_REQUIRED"
    assert "bearer token" in str(caught.value.details())
    assert "client certificate" in str(caught.value.details())


def test_who_is_known_and_not_admitted_is_told_its_name(
    mixed_site: RunningSite, authority: Authority
) -> None:
    site, target = mixed_site.site, mixed_site.target
    stranger = authority.host("wn1.elsewhere.example.org")
    with pytest.raises(grpc.RpcError) as caught:
        site.who(target, stranger)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "/CN=wn1.elsewhere.example.org" in str(caught.value.details())
    assert "nodes" not in str(caught.value.details())


def test_a_limited_proxy_reads_and_does_not_submit(
    mixed_site: RunningSite, authority: Authority
) -> None:
    site, target = mixed_site.site, mixed_site.target
    proxy = authority.person().proxy(policy=LIMITED)
    with site.channel(target, proxy) as channel:
        broker = broker_pb2_grpc.BrokerStub(channel)
        assert not broker.ListTasks(broker_pb2.ListTasksRequest(), timeout=20).tasks
        request = broker_pb2.SubmitTaskRequest(
            request_id="r", task=task_pb2.TaskSpec(user="jane", job_count=1, command=["true"])
        )
        with pytest.raises(grpc.RpcError) as caught:
            broker.SubmitTask(request, timeout=20)
    assert reason_of(caught.value) == "LIMITED_PROXY"


def test_a_token_needs_the_scope_and_the_role(mixed_site: RunningSite) -> None:
    site, target = mixed_site.site, mixed_site.target
    for token, reason in (
        (site.token(scope="compute.create"), "SCOPE_MISSING"),
        (site.token("robot"), "ROLE_MISSING"),
    ):
        metadata = (("authorization", f"Bearer {token}"),)
        with site.channel(target) as channel:
            broker = broker_pb2_grpc.BrokerStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                broker.ListTasks(broker_pb2.ListTasksRequest(), timeout=20, metadata=metadata)
        assert reason_of(caught.value) == reason


def test_bad_tokens_have_their_reasons(mixed_site: RunningSite) -> None:
    site, target = mixed_site.site, mixed_site.target
    issuer = site.issuer
    hour = timedelta(hours=1)
    for token, reason in (
        (issuer.token(lifetime=-hour), "TOKEN_EXPIRED"),
        (issuer.token(audience="other"), "WRONG_AUDIENCE"),
        (TokenIssuer().token(), "BAD_SIGNATURE"),
        (TokenIssuer("https://evil.example.org/").token(), "UNKNOWN_ISSUER"),
        ("x", "TOKEN_MALFORMED"),
    ):
        assert refusal(site, target, token=token) == reason


def test_grpc_alone_takes_certificates_where_nothing_else_is_asked_for(
    secure_site: SecureSite, authority: Authority
) -> None:
    target = secure_site.start("auth=x509&tls=on")
    assert secure_site.who(target, authority.person()).user == "jane"
    node = secure_site.who(target, authority.host("wn1.nodes.example.org"))
    assert list(node.roles) == [caller_pb2.CALLER_ROLE_PILOT]
    for shown in (None, authority.person().proxy(), Authority().person()):
        assert refusal(secure_site, target, shown=shown) == "UNAVAILABLE"


def test_a_revoked_certificate_is_refused_on_either_kind_of_listener(
    secure_site: SecureSite, authority: Authority
) -> None:
    jane, john = authority.person(), authority.person("John")
    lists = secure_site.directory / "revoked"
    lists.mkdir()
    (lists / "ca.r0").write_bytes(authority.revocation_list(jane.certificate))
    for options in ("auth=x509&tls=on", MIXED):
        target = secure_site.start(options, tls_revocations=str(lists))
        assert refusal(secure_site, target, shown=jane) == "CERTIFICATE_REVOKED"
        assert secure_site.who(target, john).user.startswith("john.")


def test_changed_rules_hold_within_seconds_for_whoever_was_known(
    secure_site: SecureSite, authority: Authority
) -> None:
    target = secure_site.start(MIXED)
    jane = authority.person()
    assert secure_site.who(target, jane).user == "jane"
    secure_site.admission_file.write_text(RULES.replace('"jane" }', '"doe" }'))
    for _ in range(100):
        if secure_site.who(target, jane).user == "doe":
            return
        time.sleep(0.1)
    pytest.fail("the rules of before still hold")


def test_an_issuer_that_goes_away_takes_nobody_along(
    secure_site: SecureSite, served_keys: ServedKeys
) -> None:
    served_keys.body = secure_site.issuer.jwks().encode()
    rules = RULES.replace('"jwks.json"', f'"{served_keys.url}"')
    secure_site.admission_file.write_text(rules)
    target = secure_site.start("auth=token&tls=on")
    assert secure_site.who(target, token=secure_site.token()).user == "ann"
    served_keys.close()
    server = secure_site.servers[0]
    server.restart()
    # From disk: nobody answers at the address of the keys.
    assert secure_site.who(target, token=secure_site.token()).user == "ann"


def test_a_server_that_stops_answers_those_behind_its_front(secure_site: SecureSite) -> None:
    target = secure_site.start(MIXED)
    token = secure_site.token()
    with secure_site.channel(target) as channel:
        broker = broker_pb2_grpc.BrokerStub(channel)
        metadata = (("authorization", f"Bearer {token}"),)
        broker.WhoAmI(broker_pb2.WhoAmIRequest(), timeout=20, metadata=metadata)
        assert secure_site.servers[0].terminate() == 0


def test_the_log_has_the_address_of_the_client_and_not_that_of_the_front(
    mixed_site: RunningSite,
) -> None:
    site, target = mixed_site.site, mixed_site.target
    refusal(site, target, token="x")
    peers = {
        str(event["peer"])
        for event in site.servers[0].log_events()
        if event.get("reason") == "TOKEN_MALFORMED"
    }
    assert peers
    assert {peer.rpartition(":")[0] for peer in peers} == {"ipv4:127.0.0.1"}


@pytest.mark.parametrize(
    ("drop", "options", "said"),
    [
        ("tls_key", "auth=token&tls=on", "needs tls_certificate and tls_key"),
        ("tls_client_ca", "auth=x509&tls=on", "tls_client_ca"),
        ("tls_client_ca", MIXED, "tls_client_ca"),
        ("admission_file", "auth=token&tls=on", "without admission_file"),
        ("", "auth=token&tls=on&proxies=accept", "proxies=accept needs auth=x509"),
    ],
)
def test_what_would_let_nobody_in_is_refused_at_start(
    secure_site: SecureSite, drop: str, options: str, said: str
) -> None:
    settings = dict(secure_site.settings(f"127.0.0.1:0?{options}"))
    settings.pop(drop, None)
    with pytest.raises(StartError, match=said):
        secure_site.start_server(**settings)


def test_check_config_reads_the_files_of_the_addresses(secure_site: SecureSite) -> None:
    settings = secure_site.settings(f"127.0.0.1:0?{MIXED}", data_dir=str(secure_site.directory))
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    done = run_server_command("check-config", *arguments)
    assert done.returncode == 0, done.stdout
    assert "addresses: ok" in done.stdout
    assert "certificates may be proxies" in done.stdout
    secure_site.admission_file.write_text("[[admit]]\nname = 'x'\n")
    done = run_server_command("check-config", *arguments)
    assert done.returncode == 1
    assert "admit 1 method: Field required" in done.stdout
