"""The values that say when a job starts: what is accepted, and what a refusal says."""

import pytest
from worker_core.model.state import State
from worker_core.model.waiting import after, array, placeholders, queueing, retry
from worker_core.model.waiting.after import After, When
from worker_core.model.waiting.array import Array
from worker_core.model.waiting.retry import RetryPolicy


def found(problems):
    """Return what is wrong as "path: why" lines."""
    return [f"{path}: {why}" for path, why in problems]


# -- after -----------------------------------------------------------------------------------------


def test_dependencies_are_read_and_written_alike():
    """A stored dependency would mean something else after a restart."""
    shown = [{"job": "a", "when": "success"}, {"job": "b", "when": "end"}]
    values = after.from_list(shown)
    assert values == (After("a"), After("b", When.END))
    assert [each.to_dict() for each in values] == shown
    assert found(after.all_problems(values)) == []


def test_when_is_success_if_it_is_not_given():
    """`after` with only an id would be refused, which is what most people write."""
    assert after.from_list([{"job": "a"}, {"job": "a", "when": "success"}]) == (After("a"),)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("a", "must be a list of objects with a job and a when"),
        ({"job": "a"}, "must be a list of objects with a job and a when"),
        (["a"], "[0] must be an object with a job and a when"),
        ([{"when": "end"}], "[0].job: required"),
        ([{"job": 7}], "[0].job: must be the id of a job"),
        ([{"job": "a", "when": "later"}], "[0].when: must be one of success, failure, end, start"),
        ([{"job": "a", "when": []}], "[0].when: must be one of success, failure, end, start"),
        ([{"job": "a", "than": "end"}], "[0].than: unknown field; known are job, when"),
    ],
)
def test_a_bad_dependency_is_named(value, why):
    """A typing error in a dependency would be an internal error, or start the job at once."""
    with pytest.raises((ValueError, KeyError)) as error:
        after.from_list(value)
    assert str(error.value.args[0]).startswith(why)


def test_what_python_passes_as_dependencies_is_checked():
    """`after="id"` would be taken for a list of letters."""
    assert found(after.all_problems("abc")) == [": must be a list of objects with a job and a when"]
    assert found(after.all_problems(["a"])) == ["[0]: must be an object with a job and a when"]
    assert found(After("").problems()) == [".job: must be the id of a job, of 1 to 64 characters"]
    assert found(After("a\nb").problems())
    assert found(After(7).problems()) == [".job: must be the id of a job"]
    wrong = ".when: must be one of success, failure, end, start, not 'end'"
    assert found(After("a", "end").problems()) == [wrong]
    many = [After(str(n)) for n in range(1001)]
    assert found(after.all_problems(many)) == [": must name at most 1000 jobs, not 1001"]


# -- retry -----------------------------------------------------------------------------------------


def test_a_policy_is_read_and_written_alike():
    """A stored policy would retry otherwise after a restart."""
    shown = {
        "max": 3,
        "delay": 1,
        "factor": 1.5,
        "max_delay": 60,
        "on": ["failed", "lost"],
        "exit_codes": [1, 75],
    }
    policy = retry.from_dict(shown)
    assert policy == RetryPolicy(3, 1, 1.5, 60, (State.FAILED, State.LOST), (1, 75))
    assert policy.to_dict() == shown
    assert found(policy.problems()) == []
    assert retry.from_dict(RetryPolicy(2).to_dict()) == RetryPolicy(2)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (3, "must be an object with max"),
        ({}, ".max: required"),
        ({"max": None}, ".max: required"),
        ({"max": 1, "delays": 2}, "delays: unknown field; known are max, delay, factor"),
    ],
)
def test_a_bad_policy_is_named(value, why):
    """A typing error in a policy would be an internal error, or mean no retry."""
    with pytest.raises((ValueError, KeyError)) as error:
        retry.from_dict(value)
    assert str(error.value.args[0]).startswith(why)


def test_every_field_of_a_policy_is_checked():
    """A negative delay or an unknown state would be found out when the job has failed."""
    value = {"max": -1, "delay": "x", "factor": 0.5, "max_delay": 1e12, "on": ["killed"]}
    assert found(retry.from_dict(value).problems()) == [
        ".max: must be a whole number from 0 to 1000",
        ".delay: must be a number",
        ".max_delay: must be from 0 to 31622400",
        ".factor: must be from 1 to 1000",
        ".on[0]: must be one of failed, timed_out, out_of_memory, lost, not 'killed'",
    ]
    value = {"max": True, "on": "failed", "exit_codes": [0, "1"], "delay": float("nan")}
    assert found(retry.from_dict(value).problems()) == [
        ".max: must be a whole number from 0 to 1000",
        ".delay: must be from 0 to 31622400",
        ".on: must be a list of one or more of failed, timed_out, out_of_memory, lost",
        ".exit_codes[0]: must be a whole number from 1 to 255",
        ".exit_codes[1]: must be a whole number from 1 to 255",
    ]
    assert found(retry.from_dict({"max": 1, "on": []}).problems())
    assert found(retry.from_dict({"max": 1, "on": [[]]}).problems())
    assert found(retry.from_dict({"max": 1, "on": ["failed"] * 10_000}).problems())
    assert found(retry.from_dict({"max": 1, "exit_codes": list(range(9999))}).problems())
    assert found(retry.from_dict({"max": 1, "exit_codes": "1"}).problems())


# -- array -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("7", [7]),
        ("1-5", [1, 2, 3, 4, 5]),
        ("0-10:2", [0, 2, 4, 6, 8, 10]),
        ("1,3,7", [1, 3, 7]),
        ("3,1,2-4, 10-14:2", [1, 2, 3, 4, 10, 12, 14]),
        ("0-0", [0]),
        ("1-2:999999999", [1]),
    ],
)
def test_indices_are_those_of_slurm(text, indices):
    """Somebody who comes from Slurm would get other elements."""
    value = Array(text)
    assert [each for run in value.runs() for each in run] == indices
    assert value.size == len(indices)
    assert found(value.problems()) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is not an index"),
        ("a", "'a' is not an index"),
        ("-1", "'-1' is not an index"),
        ("1-", "'1-' is not an index"),
        ("1,,2", "'' is not an index"),
        ("٣", "'٣' is not an index"),
        ("1000000000", "'1000000000' is not an index of up to 999999999"),
        ("5-1", "'5-1' is a range that ends before it begins"),
        ("1-5:0", "'1-5:0' has a step of 0"),
        ("1-100%5", "must not contain '%'; how many run at once is the field parallel"),
        ("0-999999999", "must be at most 1000000 indices, not 1000000000"),
        (",".join(["1-1000"] * 2000), "must be at most 1000000 indices, not 2000000"),
        ("1," * 60_000, "must be at most 100000 characters"),
        (7, "must be a text, as in 1-100, 0-10:2 or 1,3,7"),
    ],
)
def test_bad_indices_are_named(text, why):
    """A typing error would make no element, or so many that the server has no memory left."""
    (line,) = found(Array(text).problems())
    assert line.startswith(f".indices: {why}")


def test_items_are_numbered_as_the_lines_of_a_file():
    """ID:7 would be the eighth line of the file."""
    value = array.from_dict({"items": ["a", "b"], "parallel": 1})
    assert (value.size, value.item(1), value.item(2)) == (2, "a", "b")
    assert value.runs() == (range(1, 3),)
    assert array.from_dict(value.to_dict()) == value
    assert Array("1-2").item(1) is None


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({}, ": must have either indices or items"),
        ({"indices": "1", "items": ["a"]}, ": must have either indices or items"),
        ({"items": []}, ".items: must be 1 to 1000000 items, not 0"),
        ({"items": "abc"}, ".items: must be a list of texts, or of objects of texts"),
        ({"items": ["a", 1]}, ".items[1]: must be a text as the first item is"),
        ({"items": [1]}, ".items[0]: must be a text, or an object of texts"),
        ({"items": [{}]}, ".items[0]: must have 1 to 64 names"),
        ({"items": [{"a{": "1"}]}, ".items[0]['a{']: as a name: must be a text without braces"),
        ({"items": [{"a": "1"}, {"b": "1"}]}, ".items[1]: must be an object with the same names"),
        ({"items": [{"a": "1"}, "x"]}, ".items[1]: must be an object with the same names"),
        ({"items": [{"a": 1}]}, ".items[0]['a']: must be a text"),
        ({"indices": "1", "parallel": 0}, ".parallel: must be a whole number from 1 to 1000000"),
        ({"indices": "1", "max_failures": True}, ".max_failures: must be a whole number from 1"),
    ],
)
def test_every_field_of_an_array_is_checked(value, why):
    """A typing error in an array would be found out by its hundred thousandth element."""
    (line,) = found(array.from_dict(value).problems())
    assert line.startswith(why)


def test_an_array_that_is_not_an_object_is_refused():
    """An array given as a text would be an internal error."""
    with pytest.raises(ValueError, match="must be an object with indices or items"):
        array.from_dict("1-100")
    with pytest.raises(KeyError, match="index: unknown field; known are indices, items, parallel"):
        array.from_dict({"index": "1-100"})


# -- placeholders ----------------------------------------------------------------------------------


def test_a_text_stands_where_the_braces_are():
    """The same command would run for each line of a file."""
    fields = {
        "command": "conv{}",
        "args": ["-i", "{}.png", "{ }", "{x}", "{{}}"],
        "env": {"IN_{}": "{}", "PLAIN": "1"},
        "cwd": "/data/{}",
        "name": "convert {}",
        "timeout": 5,
    }
    assert placeholders.filled(fields, "a{}") == {
        "command": "conva{}",
        "args": ["-i", "a{}.png", "{ }", "{x}", "{a{}}"],
        "env": {"IN_{}": "a{}", "PLAIN": "1"},
        "cwd": "/data/a{}",
        "name": "convert a{}",
        "timeout": 5,
    }


def test_a_text_without_a_place_is_the_last_argument():
    """`--each-line files gzip` would compress nothing."""
    filled = placeholders.filled({"command": "gzip", "args": ["-9"]}, "a b")
    assert filled["args"] == ["-9", "a b"]
    kept = placeholders.filled({"command": "sh", "args": ["-9"], "env": {"F": "{}"}}, "a b")
    assert (kept["args"], kept["env"]) == (["-9"], {"F": "a b"})


def test_an_object_stands_where_its_names_are():
    """A sweep over parameters would pass the braces on."""
    fields = {"command": "train", "args": ["--lr", "{lr}", "{bs}{bs}", "{}", "${HOME}", "{no}"]}
    item = {"lr": "0.1", "bs": "{lr}"}
    assert placeholders.filled(fields, item)["args"] == [
        "--lr", "0.1", "{lr}{lr}", "{}", "${HOME}", "{no}",
    ]  # fmt: skip
    assert placeholders.unused(fields, item | {"seed": "1"}) == ["seed"]
    assert placeholders.unused(fields, "x") == []


def test_without_an_item_nothing_is_replaced():
    """`find -exec rm {} ;` would lose its braces in an array of indices."""
    fields = {"command": "find", "args": ["-exec", "rm", "{}", ";"]}
    assert placeholders.filled(fields, None) == fields


# -- the small ones --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problems", "value", "why"),
    [
        (queueing.Priority().problems, True, ": must be a whole number"),
        (queueing.Priority().problems, 101, ": must be from -100 to 100"),
        (queueing.Moment().problems, float("inf"), ": must be a time between the years 1970"),
        (queueing.Moment().problems, "now", ": must be a time in Unix seconds"),
        (queueing.resources_problems, ["gpu"], ": must be an object of pools and how many"),
        (queueing.resources_problems, {"gpu": 0}, "['gpu']: must be from 1 to"),
        (queueing.resources_problems, {"gpu": 1.5}, "['gpu']: must be a whole number of units"),
        (queueing.resources_problems, {"": 1}, "['']: as a name: must be a text of 1 to 255"),
        (queueing.resources_problems, {str(n): 1 for n in range(65)}, ": must name at most 64"),
        (queueing.Lock().problems, 7, ": must be a text"),
        (queueing.Lock().problems, "", ": must be a text of 1 to 255 characters"),
        (queueing.Lock().problems, "a\n", ": must have no control characters"),
    ],
)
def test_small_fields_are_checked(problems, value, why):
    """A typing error would be found out when the job is to start, or never."""
    (line,) = found(problems(value))
    assert line.startswith(why)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01t01:00:10.25+01:00", 10.25),
        ("1970-01-01 00:00:00.000z", 0.0),
        ("0325-07-04T21:48:01+07:45", 0.0),  # long ago is long ago
        ("0001-01-01T00:00:00+07:45", 0.0),
        ("9999-12-31T23:59:59-07:45", 253402300799.0),
    ],
)
def test_a_moment_is_read(text, seconds):
    """A job would start an hour early, or the time of another program would be refused."""
    assert queueing.moment(text) == seconds


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (10, "must be a time in RFC 3339"),
        ("2026-12-01T08:00:00", "'2026-12-01T08:00:00' is not a time in RFC 3339 with a zone"),
        ("22:00", "'22:00' is not a time in RFC 3339 with a zone, as in 2026-12-01T08:00:00Z"),
        ("2026-13-01T08:00:00Z", "'2026-13-01T08:00:00Z' is not a time: month"),
        ("2026-12-01T08:00:00+99:00", "'2026-12-01T08:00:00+99:00' is not a time"),
        ("x" * 10_000, f"'{'x' * 100}…' is not a time in RFC 3339, as in"),
    ],
)
def test_what_is_not_a_moment_is_named(value, why):
    """A time without a zone would be taken for that of the server."""
    with pytest.raises(ValueError, match="time") as error:
        queueing.moment(value)
    assert str(error.value).startswith(why)
