import json

import pytest
from google.protobuf import descriptor_pool

from pandawn.broker.v1 import broker_pb2, job_pb2, task_pb2
from pandawn.common.v1 import common_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2
from pandawn.monitor.v1 import monitor_pb2
from pandawn.queueconfig.v1 import parameters_pb2, queue_pb2, revision_pb2
from pandawn_tools.cli.jsonout import _NAMES, message_json, print_messages


def test_the_keys_are_the_fields_of_the_contract_set_or_not() -> None:
    assert list(message_json(job_pb2.Job())) == [f.name for f in job_pb2.Job.DESCRIPTOR.fields]


def test_sums_of_64_bits_are_numbers() -> None:
    assert message_json(task_pb2.Task(input_bytes=2**40))["input_bytes"] == 2**40


def test_opaque_numbers_are_strings_that_json_readers_do_not_round() -> None:
    state = filecatalog_pb2.CacheState(epoch=2**64 - 1, sequence=3)
    assert message_json(state) == {"epoch": str(2**64 - 1), "sequence": 3, "digest": "0"}


def test_what_is_not_set_is_null_and_not_missing() -> None:
    task = message_json(task_pb2.Task())
    assert task["end_time"] is None
    assert message_json(job_pb2.Attempt())["exit_code"] is None
    assert message_json(parameters_pb2.QueueParameters(max_input_bytes=0))["max_input_bytes"] == 0


def test_enums_are_the_names_of_the_contract_and_unknown_ones_stay_numbers() -> None:
    job = job_pb2.Job(state=common_pb2.JOB_STATE_FAILED)
    assert message_json(job)["state"] == "JOB_STATE_FAILED"
    newer = job_pb2.Job.FromString(b"\x28\x63")
    assert message_json(newer)["state"] == 99


def test_times_and_spans_are_as_in_the_json_of_protobuf() -> None:
    queue = queue_pb2.Queue()
    queue.parameters.lease_duration.FromSeconds(15)
    queue.update_time.FromSeconds(0)
    assert message_json(queue)["lease_duration"] == "15s"
    assert message_json(queue)["update_time"] == "1970-01-01T00:00:00Z"


def test_a_queue_has_its_parameters_in_one_level_with_its_name() -> None:
    queue = queue_pb2.Queue(name="Q", parameters=parameters_pb2.QueueParameters(cores=8))
    said = message_json(queue_pb2.GetQueueResponse(queue=queue))["queue"]
    assert isinstance(said, dict)
    assert (said["name"], said["cores"], said["site"]) == ("Q", 8, None)
    assert "parameters" not in said


def test_scripts_know_some_fields_by_another_name_than_the_contract() -> None:
    attempt = job_pb2.Attempt(number=2)
    attempt.job_match.local_bytes = 7
    said = message_json(attempt)
    assert (said["attempt"], said["match"]["local_bytes"], said["use"]) == (2, 7, None)  # type: ignore[call-overload,index]
    assert message_json(revision_pb2.Revision(number=3))["revision"] == 3
    assert message_json(monitor_pb2.Node(name="wn01"))["node"] == "wn01"


def test_every_other_name_is_that_of_a_field() -> None:
    for name, fields in _NAMES.items():
        known = descriptor_pool.Default().FindMessageTypeByName(name).fields_by_name
        assert set(fields) <= set(known)
        assert not set(fields.values()) & set(known), "two fields would have one name"


def test_maps_and_lists_of_messages_are_objects_and_lists() -> None:
    spec = task_pb2.TaskSpec(environment={"B": "2", "A": "1"}, command=["a", "b"])
    spec.inputs.add().file.lfn = "f"
    said = message_json(spec)
    assert said["environment"] == {"A": "1", "B": "2"}
    assert said["command"] == ["a", "b"]
    assert json.loads(json.dumps(said))["inputs"][0]["file"]["lfn"] == "f"


@pytest.mark.parametrize(
    "message",
    [
        broker_pb2.GetJobResponse(attempts=[job_pb2.Attempt()]),
        broker_pb2.ExplainJobResponse(job_match=common_pb2.Match()),
        monitor_pb2.Node(cache=filecatalog_pb2.Cache()),
        monitor_pb2.Pilot(),
        monitor_pb2.Event(),
    ],
)
def test_every_message_that_is_shown_has_a_json_form(message: object) -> None:
    assert json.dumps(message_json(message))  # type: ignore[arg-type]


def test_a_listing_is_one_json_list(capsys: pytest.CaptureFixture[str]) -> None:
    print_messages([task_pb2.Task(task_id=1), task_pb2.Task(task_id=2)])
    assert [task["task_id"] for task in json.loads(capsys.readouterr().out)] == [1, 2]


def test_an_empty_listing_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    print_messages([])
    assert json.loads(capsys.readouterr().out) == []
