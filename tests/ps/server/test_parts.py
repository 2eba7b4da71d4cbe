"""Parts of checkpoints that servers write, and what other servers take of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh.checkpoint.formats.apart import Base
from paramesh.checkpoint.opening import open_source
from paramesh.checkpoint.sharded.compaction import compact
from paramesh.checkpoint.sharded.increments import IncrementSource, open_sharded
from paramesh.checkpoint.sharded.source import ShardedSource
from paramesh.errors import CheckpointError, ParameterServerError
from paramesh.ps.server.loading import load_some
from paramesh.ps.server.server import Server
from paramesh.ps.server.store import Store
from paramesh.ps.specification.checkpoints import LoadOrder, shard_range
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.protocol import RunConfig
from saved_stores import load_orders, save_stores
from small_stores import LIFE, NUMBERS, SHARDS, apply_to_all, make_stores, specs, update_of

SIZE = 70_000  # more than one range of a dense Parameter


def trained(servers: int, steps: int, **life: Any) -> list[Store]:
    stores = make_stores(servers, SIZE, **life)
    for step in range(steps):
        apply_to_all(stores, step, SIZE)
    return stores


def rows_in(stores: list[Store]) -> dict[tuple[str, int], list[Any]]:
    """All rows and candidates, with all that is known of them."""
    found: dict[tuple[str, int], list[Any]] = {}
    for store in stores:
        arrays = dict(store.dump())
        for name in ("plain", "living"):
            aged = name == "living" and "expire" in store.specs()[name]
            fields = ["value", "moments", *(["last"] if aged else [])]
            for at, i in enumerate(arrays[f"ids/{name}"].tolist()):
                found[name, i] = [arrays[f"{field}/{name}"][at].tolist() for field in fields]
            met = [arrays.get(f"{f}/{name}", []) for f in ("candidates", "meetings", "met_last")]
            found |= {(f"met by {name}", i): rest for i, *rest in zip(*met, strict=True)}
    return found


def loaded(
    folder: Path, identity: str, servers: int, place: Path, again: bool = False, **life: Any
) -> list[Server]:
    """New servers that have taken everything from a checkpoint."""
    made: list[Server] = []
    pieces = Partition(servers, SHARDS).split_spec
    for number in range(servers):
        server = Server(place / f"server-{number}", RunConfig())
        server.declare(
            [piece for spec in specs(SIZE, **life) for piece in pieces(spec)[number]], {}
        )
        for order in load_orders(server.store, folder, identity):
            first, stop = shard_range(number, servers, SHARDS)
            at = first
            while at < stop:
                at = load_some(server, order, range(first, stop), at, lambda: True)
                if again and at == first + 3:  # it dies, and the worker asks again
                    server.close()
                    server = Server(place / f"server-{number}", RunConfig())
                    again = False
        load_dense(server, folder)
        made.append(server)
    return made


def load_dense(server: Server, folder: Path) -> None:
    with open_source(folder) as source:
        for spec in server.store.specs().values():
            if spec["kind"] == "dense":
                part = spec["offset"], spec["offset"] + spec["shape"][0]
                fields = {"value": source.read_flat("w", *part)}
                fields |= {"moments": source.read_flat("moments.w", *part)}
                server.put(spec["name"], fields, None)


def end(servers: list[Server]) -> None:
    for server in servers:
        server.close()


def dense_of(stores: list[Store]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for store in stores:
        for spec in store.specs().values():
            if spec["kind"] == "dense":
                start, stop = spec["offset"], spec["offset"] + spec["shape"][0]
                for field in store.fields(spec["name"]):
                    array = found.setdefault(field, np.empty(SIZE, np.float32))
                    array[start:stop] = store.read(spec["name"], field=field)
    return found


def same(first: list[Store], second: list[Store]) -> None:
    assert rows_in(first) == rows_in(second)
    one, other = dense_of(first), dense_of(second)
    assert one.keys() == other.keys()
    assert all(one[field].tobytes() == other[field].tobytes() for field in one)


@pytest.mark.parametrize("life", [{}, LIFE], ids=["plain", "living"])
@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (2, 1)])
def test_another_number_of_servers_goes_on_with_the_same_bits(
    before: int, after: int, life: Any, tmp_path: Path
) -> None:
    life = {key: value for key, value in life.items() if key != "max_rows"}
    stores = trained(before, 7, **life)
    folder = tmp_path / "x.sharded"
    identity = save_stores(stores, folder, 7)
    servers = loaded(folder, identity, after, tmp_path, again=True, **life)
    theirs = [server.store for server in servers]
    same(theirs, stores)
    for step in range(7, 16):  # rows come, expire, and are admitted by chance
        apply_to_all(stores, step, SIZE)
        parts = Partition(after, SHARDS).split_updates(update_of(step, SIZE))
        for store, mine in zip(theirs, parts, strict=True):
            store.apply(step - 7, mine, NUMBERS)
    same(theirs, stores)
    end(servers)


def test_what_was_taken_is_in_the_log(tmp_path: Path) -> None:
    stores = trained(2, 5, **LIFE)
    folder = tmp_path / "x.sharded"
    servers = loaded(folder, save_stores(stores, folder, 5), 1, tmp_path, **LIFE)
    before = dict(servers[0].store.dump())
    end(servers)
    for path in folder.iterdir():
        path.unlink()
    server = Server(tmp_path / "server-0", RunConfig())
    after = dict(server.store.dump())
    assert {k: a.tobytes() for k, a in before.items()} == {k: a.tobytes() for k, a in after.items()}
    report = server.store.life()["living"]
    counts = [store.life()["living"] for store in stores]
    for key in ("admitted", "rejected", "expired", "evicted", "candidates", "rows"):
        assert report[key] == sum(one[key] for one in counts)
    for key in ("last_admitted", "last_dropped"):
        assert len(report[key]) == min(100, sum(len(one[key]) for one in counts))
    server.close()


def chain(tmp_path: Path, **life: Any) -> tuple[list[Store], list[Path]]:
    """A complete checkpoint after 4 steps, and increments after 6 and 9."""
    stores = trained(2, 4, **life)
    folders = [tmp_path / f"{step}.sharded" for step in (4, 6, 9)]
    identity = save_stores(stores, folders[0], 4)
    for before, after in ((4, 6), (6, 9)):
        for step in range(before, after):
            apply_to_all(stores, step, SIZE)
        base = Base(f"../{before}.sharded", identity)
        identity = save_stores(
            stores, tmp_path / f"{after}.sharded", after, since=before, base=base
        )
    return stores, folders


@pytest.mark.parametrize("life", [{}, LIFE], ids=["plain", "living"])
def test_a_chain_of_increments_is_the_last_state(life: Any, tmp_path: Path) -> None:
    stores, folders = chain(tmp_path, **life)
    with open_sharded(folders[2]) as source:
        assert isinstance(source, IncrementSource)
        assert [one.path for one in source.chain] == folders[::-1]
        identity = source.identity
        stored = source.chain[0].entry("plain.rows").shape[0]
        assert (
            stored
            < source.entry("plain.rows").shape[0]
            == sum(len(store.rows("plain")) for store in stores)
        )
    servers = loaded(folders[2], identity, 3, tmp_path, **life)
    same([server.store for server in servers], stores)
    end(servers)


@pytest.mark.parametrize("life", [{}, LIFE], ids=["plain", "living"])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_compacted_chain_is_the_same_checkpoint(
    in_place: bool, life: Any, tmp_path: Path
) -> None:
    stores, folders = chain(tmp_path, **life)
    arrays: list[dict[str, bytes]] = []
    with open_source(folders[2]) as source:
        arrays.append({name: source.read(name).tobytes() for name in source.names()})
        for name in ("plain.rows", "living.ids"):
            parts = [source.read_rows(name, *part).tobytes() for part in ((0, 3), (3, 20))]
            assert arrays[0][name].startswith(b"".join(parts))
    # The middle one is the base of the last.
    middle = compact(folders[1])
    with open_source(folders[2]) as source:
        arrays.append({name: source.read(name).tobytes() for name in source.names()})
    made = compact(folders[2], None if in_place else tmp_path / "made.sharded")
    for folder in (middle, made):
        assert {p.name.partition("-")[0] for p in folder.iterdir()} == {"index.json", "part"}
    for folder in folders[: 2 + in_place - 1]:
        for path in folder.iterdir():
            path.unlink()
    with ShardedSource(made) as source:
        identity = source.identity
        arrays.append({name: source.read(name).tobytes() for name in source.names()})
    assert arrays[0] == arrays[1] == arrays[2]
    servers = loaded(made, identity, 3, tmp_path, **life)
    same([server.store for server in servers], stores)
    end(servers)
    assert compact(made) == made


def test_a_base_that_is_missing_or_another_one_is_an_error(tmp_path: Path) -> None:
    stores, folders = chain(tmp_path)
    with pytest.raises(CheckpointError, match="is an increment, .* cannot be read alone"):
        ShardedSource(folders[2])
    moved = tmp_path / "elsewhere"
    folders[0].rename(moved)
    with pytest.raises(CheckpointError, match=r"6.sharded' has the rows .* since '.*4.sharded'"):
        open_source(folders[2])
    moved.rename(folders[0])
    save_stores(stores, folders[0], 9)
    with pytest.raises(CheckpointError, match="another checkpoint is there now"):
        open_source(folders[2])
    with pytest.raises(FileExistsError):
        compact(folders[0], folders[1])


def test_what_does_not_fit_is_an_error(tmp_path: Path) -> None:
    stores = trained(2, 3)
    folder = tmp_path / "x.sharded"
    identity = save_stores(stores, folder, 3)
    server = Server(tmp_path / "server-0", RunConfig())
    server.declare(specs(SIZE), {})
    (plain,) = [o for o in load_orders(server.store, folder, identity) if o.param == "plain"]
    shards = range(SHARDS)

    def load(**more: Any) -> None:
        load_some(server, plain._replace(**more), shards, 0, lambda: False)

    with pytest.raises(CheckpointError, match="was replaced since it was loaded"):
        load(identity="0" * 32)
    with pytest.raises(CheckpointError, match="has no table 'other'"):
        load(name="other")
    with pytest.raises(CheckpointError, match=r"no table 'plain' of 16 .* accum.plain.rows"):
        load(fields={"accum": "accum.plain.rows"})
    with pytest.raises(CheckpointError, match="cannot be read|no index.json"):
        load(folder=str(tmp_path / "none"))
    assert len(server.store.rows("plain")) == 0
    load()
    server.store.apply(0, {}, NUMBERS)
    server.version = 1
    load()  # a worker that is started again
    with pytest.raises(ParameterServerError, match="'living' was to be loaded at version 1"):
        load(param="living", name="living")
    server.close()


def test_a_server_without_rows_has_loaded_too(tmp_path: Path) -> None:
    folder = tmp_path / "x.sharded"
    identity = save_stores(trained(1, 0), folder, 0)
    (server,) = loaded(folder, identity, 1, tmp_path)
    orders = load_orders(server.store, folder, identity)
    assert orders
    server.close()
    server = Server(tmp_path / "server-0", RunConfig())  # from its log
    server.version = 1
    for order in orders:  # of a worker that is started again
        assert load_some(server, order, range(SHARDS), 0, lambda: False) == SHARDS
    server.close()


def test_the_load_of_a_second_worker_leaves_what_is_being_saved(tmp_path: Path) -> None:
    stores = trained(1, 3)
    folder = tmp_path / "x.sharded"
    identity = save_stores(stores, folder, 3)
    (server,) = loaded(folder, identity, 1, tmp_path)
    (order,) = [o for o in load_orders(server.store, folder, identity) if o.param == "plain"]

    def load(order: LoadOrder = order) -> bool:
        """Whether a view from before can still be read."""
        view = server.store.view()
        load_some(server, order, range(SHARDS), 0, lambda: False)
        view.release()
        return not any(table.broken for table in view.tables)

    assert load()
    server.close()
    server = Server(tmp_path / "server-0", RunConfig())  # from its log
    assert load()
    # Other rows, or rows from elsewhere, have to be loaded over.
    ids = server.store.rows("plain")
    server.put("plain", {"value": np.zeros((len(ids), 3), np.float32)}, ids)
    assert not load()
    same([server.store], stores)
    assert load()
    other = tmp_path / "y.sharded"
    identity = save_stores(trained(1, 4), other, 4)
    assert not load(order._replace(folder=str(other), identity=identity))
    server.close()


def test_rows_in_the_place_of_others_are_an_error(tmp_path: Path) -> None:
    stores = trained(1, 3)
    folder = tmp_path / "x.sharded"
    identity = save_stores(stores, folder, 3)
    (part,) = folder.glob("part-*")
    with ShardedSource(folder) as source:
        first, second = source.read("plain.ids")[:2].tolist()
    content = bytearray(part.read_bytes())
    at = content.index(np.array([first, second]).tobytes())
    content[at : at + 8] = np.array([second + 1]).tobytes()
    part.write_bytes(content)
    with pytest.raises(CheckpointError, match="rows of 'plain' that do not belong where they are"):
        loaded(folder, identity, 1, tmp_path)


def test_a_folder_that_a_server_does_not_see_is_an_error(tmp_path: Path) -> None:
    stores = trained(1, 1)
    folder = tmp_path / "x.sharded"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("saved_stores.Ticket.take", lambda self: None)
        with pytest.raises(FileNotFoundError, match="the save was given up, or the folder"):
            save_stores(stores, folder, 1)
    assert list(folder.iterdir()) == []
