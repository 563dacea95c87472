"""Every method says who may call it, in one place."""

from pandawn_server.wire.edge.policies import POLICIES
from tests.contract.test_proto_rules import FILES


def methods() -> set[str]:
    return {
        f"/{file.package}.{service.name}/{method.name}"
        for file in FILES
        for service in file.service
        for method in service.method
    }


def test_each_method_has_a_policy_and_no_policy_is_left_over() -> None:
    assert set(POLICIES) == methods()
