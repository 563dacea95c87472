"""Errors of the domain become gRPC statuses that any client can read."""

from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from pandawn_server.domain.errors import (
    Code,
    ExhaustedError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
    Violation,
)
from pandawn_server.wire.edge.errors import (
    Refusal,
    incident_refusal,
    item_status,
    refusal_of,
    status_code,
)


def status_in(refusal: Refusal) -> status_pb2.Status:
    status = status_pb2.Status()
    raw = dict(refusal.trailers)["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    status.ParseFromString(raw)
    return status


def bad_request_in(refusal: Refusal) -> error_details_pb2.BadRequest:
    for detail in status_in(refusal).details:
        request = error_details_pb2.BadRequest()
        if detail.Unpack(request):
            return request
    raise AssertionError("no BadRequest among the details")


@pytest.mark.parametrize("code", Code)
def test_every_domain_code_is_a_grpc_code_of_the_same_name(code: Code) -> None:
    assert status_code(code).name == code.value


def test_a_bare_client_reads_reason_and_retry_from_plain_trailers() -> None:
    error = UnavailableError(
        "DATABASE_UNAVAILABLE", "the database is away", retry_after=timedelta(milliseconds=1500)
    )
    trailers = dict(refusal_of(error).trailers)
    assert trailers["pandawn-reason"] == "DATABASE_UNAVAILABLE"
    assert trailers["pandawn-retry-after-ms"] == "1500"
    assert trailers["grpc-retry-pushback-ms"] == "1500"


def test_a_rich_client_reads_the_same_and_the_metadata_from_the_details() -> None:
    error = NotFoundError("QUEUE_NOT_FOUND", "no queue 'x'", metadata={"queue": "x"})
    status = status_in(refusal_of(error))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (grpc.StatusCode.NOT_FOUND.value[0], "no queue 'x'")
    assert (info.reason, info.domain) == ("QUEUE_NOT_FOUND", "pandawn")
    assert dict(info.metadata) == {"queue": "x"}


def test_unavailable_always_says_when_to_retry() -> None:
    refusal = refusal_of(UnavailableError("SHUTTING_DOWN", "stopping"))
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status_in(refusal).details)
    assert retry.retry_delay.ToTimedelta() == timedelta(seconds=1)


def test_a_limit_that_waiting_does_not_lift_says_nothing_of_a_retry() -> None:
    refusal = refusal_of(ExhaustedError("SANDBOX_TOO_LARGE", "too large"))
    assert {"pandawn-retry-after-ms", "grpc-retry-pushback-ms"}.isdisjoint(dict(refusal.trailers))


def test_all_violations_of_a_request_are_listed() -> None:
    violations = [Violation(f"task.inputs[{i}].file.lfn", "must be set") for i in range(20)]
    listed = bad_request_in(refusal_of(InvalidRequestError.of(violations))).field_violations
    assert [(v.field, v.description) for v in listed] == [
        (v.field, v.description) for v in violations
    ]


def test_beyond_fifty_the_violations_are_counted() -> None:
    violations = [Violation(f"f[{i}]", "bad") for i in range(173)]
    listed = bad_request_in(refusal_of(InvalidRequestError.of(violations))).field_violations
    assert len(listed) == 51
    assert listed[-1].description == "and 123 more violations"


def test_an_incident_names_the_log_entry_and_nothing_else() -> None:
    refusal = incident_refusal("c0ffee")
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert "c0ffee" in refusal.message
    assert dict(refusal.trailers)["pandawn-reason"] == "INTERNAL_ERROR"


def test_one_item_of_a_batch_answers_with_code_reason_and_message() -> None:
    status = item_status(NotFoundError("JOB_NOT_FOUND", "no job 7"))
    assert (status.code, status.reason, status.message) == (5, "JOB_NOT_FOUND", "no job 7")


def test_an_item_that_went_well_has_an_empty_status() -> None:
    assert item_status(None).code == 0
    assert not item_status(None).reason
