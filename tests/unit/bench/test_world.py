import json
from datetime import UTC, datetime
from statistics import mean

import pytest

from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.tasks.files import unpack
from pandawn_tools.bench import workload
from pandawn_tools.bench.rows import LEASES_PER_PILOT, Pool, Table, dataset_count, tables

NOW = datetime(2026, 11, 22, tzinfo=UTC)
POOLS = (
    Pool("DEPTH", 0, depth=700, reserve=300),
    Pool("LEASED", 2, leased=500),
)


def filled() -> list[Table]:
    return [Table(table.name, table.columns, list(table.rows)) for table in tables(POOLS, 120, NOW)]


def test_jobs_read_as_many_and_as_large_files_as_was_published() -> None:
    jobs = [job for task in range(20) for job in workload.jobs_of(task, task)]

    assert mean(len(job.inputs) for job in jobs) == pytest.approx(workload.MEAN_INPUTS, rel=0.05)
    sizes = [file.size_bytes for job in jobs for file in job.inputs]
    assert mean(sizes) == pytest.approx(workload.MEAN_BYTES, rel=0.1)


def test_no_job_reads_more_than_a_queue_takes_or_a_file_twice() -> None:
    for job in workload.jobs_of(7, 2):
        assert job.input_bytes <= workload.MAX_JOB_BYTES
        assert len(set(job.inputs)) == len(job.inputs) >= 1


def test_the_world_is_the_same_each_time() -> None:
    assert workload.jobs_of.__wrapped__(3, 1) == workload.jobs_of.__wrapped__(3, 1)
    assert workload.groups_of(5, 40) == workload.groups_of(5, 40)


def test_a_node_holds_distinct_files_of_datasets_in_use() -> None:
    for node in range(50):
        places = workload.groups_of(node, 30)
        held = [file for place in places for file in workload.group(*place)]
        held += workload.hot_files()[: workload.HOT_PER_NODE]
        assert len(set(held)) == len(held) == workload.FILES_PER_NODE
        assert all(0 <= dataset < 30 for dataset, _ in places)


def test_datasets_that_are_read_now_are_held_most_and_old_ones_not_at_all() -> None:
    chosen = [dataset for node in range(500) for dataset, _ in workload.groups_of(node, 5000)]

    half = workload.CACHED_DATASETS // 2
    assert sum(dataset < half for dataset in chosen) > sum(dataset >= half for dataset in chosen)
    assert max(chosen) < workload.CACHED_DATASETS


def test_rows_fit_the_schema_of_the_server() -> None:
    for table in filled():
        schema = metadata.tables[table.name]
        assert set(table.columns) <= set(schema.c.keys())
        missing = [
            column.name
            for column in schema.columns
            if not column.nullable
            and column.server_default is None
            and column.name not in table.columns
        ]
        assert not missing, f"{table.name} needs {missing}"
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_each_job_has_its_inputs_where_the_server_looks_for_them() -> None:
    rows = [row for table in filled() if table.name == "job_inputs" for row in table.rows]
    read = {int(number): [unpack(file) for file in json.loads(packed)] for number, packed in rows}

    jobs = [job for pool in POOLS for task in pool.tasks for job in pool.jobs(task)]
    assert list(read) == [job.number + 1 for job in jobs]
    for job in jobs:
        found = [(file.lfn, file.size_bytes, file.url, file.guid) for file in read[job.number + 1]]
        assert found == [(f.lfn, f.size_bytes, f.url, f.guid) for f in job.inputs]


def test_the_states_of_jobs_are_those_of_their_pool() -> None:
    states = [
        dict(zip(table.columns, row, strict=True))["state"]
        for table in filled()
        if table.name == "jobs"
        for row in table.rows
    ]

    assert states == ["activated"] * 700 + ["waiting"] * 300 + ["running"] * 500
    assert list(POOLS[0].reserve_ids) == list(range(701, 1001))


def test_leased_jobs_have_one_lease_and_one_attempt_each_and_pilots_share_them() -> None:
    rows = {table.name: table for table in filled()}
    leases = [dict(zip(rows["leases"].columns, row, strict=True)) for row in rows["leases"].rows]
    attempts = list(rows["attempts"].rows)

    assert len({lease["job_id"] for lease in leases}) == len(leases) == len(attempts) == 500
    assert len({lease["pilot_id"] for lease in leases}) == 500 // LEASES_PER_PILOT


def test_jobs_that_do_not_make_whole_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="whole tasks"):
        Pool("ODD", 0, depth=10)


def test_datasets_are_counted_over_all_pools() -> None:
    assert dataset_count(POOLS) == 1 + workload.dataset_of(1)
