"""What the router's processes are told while they run."""

from __future__ import annotations

from provider.router.configuration import Server
from provider.router.runtime import (
    DRAIN,
    MAINTENANCE,
    Found,
    Worker,
    certifying,
    differences,
    keying,
    left,
    moving,
    parse,
)

PRINTED = """\
%% file services/mnist.cfg
# text
frontend mnist
%% file keys/mnist.acl
AB
%% file services/other.cfg
# more
%% certificate mnist 12ef
%% worker 41
%% 1
SLIPWAY_ROUTE_mnist=0123
SLIPWAY_ROUTE_third=4567

%% 2
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight
4 mnist 1 a - 2 0 3 1 0
4 mnist 2 b - 0 1 1 1 0
5 mnist:blue 1 a - 2 0 1 1 0
6 mnist-2 1 c - 2 0 1 1 0

%% 3
0x55d0 AB
0x55d8 CD

%% 4
Filename: /etc/slipway-router/certificates/mnist.pem
SHA1 FingerPrint: 99FF
Subject: /CN=x
%% 5
0x55d8 EF
%% 6
Can't display the certificate: Not found or the certificate is a bundle!
%% worker 17
%% 1
SLIPWAY_ROUTE_mnist=0123
%% 2
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight
%% 3
Unknown ACL identifier. Please use #<id> or <file>.
%% 4
Can't display the certificate: Not found or the certificate is a bundle!
"""


def server(name: str, weight: int = 1) -> Server:
    return Server(f"/run/slipway/{name}.sock", weight)


def worker(servers: dict[str, dict[str, Found]], mark: str = "m") -> Worker:
    return Worker(1, mark, servers)


def test_what_the_router_prints_is_read() -> None:
    both = parse(PRINTED, ["mnist", "other"])
    facts = both["mnist"]
    assert (both["other"].files, both["other"].workers[0].keys) == ({"services": "# more\n"}, {"EF"})
    assert facts.files == {"services": "# text\nfrontend mnist\n", "keys": "AB\n"}
    assert facts.certificate == "12ef"
    newest, former = facts.workers
    assert (newest.pid, newest.mark, newest.fingerprint, newest.keys) == (41, "0123", "99FF", {"AB", "CD"})
    assert newest.servers == {
        "mnist": {"a": Found(0, 3), "b": Found(MAINTENANCE, 1)},
        "mnist:blue": {"a": Found(0, 1)},
    }
    # It has the variable still, and the service no longer.
    assert (former.pid, former.mark, former.servers, former.keys) == (17, "", {}, set())


def test_what_comes_is_added_before_what_goes_is_drained() -> None:
    commands = moving(worker({"mnist": {"a": Found(0, 1)}}), {"mnist": {"b": server("b")}}, "m")
    assert [command.split(" unix@")[0] for command in commands] == [
        "add server mnist/b",
        "enable health mnist/b",
        "enable server mnist/b",
        "set server mnist/a state drain",
    ]


def test_a_shift_of_weights_touches_nothing_else() -> None:
    found = worker({"mnist": {"a": Found(0, 9), "b": Found(0, 1)}})
    commands = moving(found, {"mnist": {"a": server("a", 0), "b": server("b", 1)}}, "m")
    assert commands == ["set server mnist/a weight 0"]
    commands = moving(found, {"mnist": {"a": server("a", 1), "b": server("b", 9)}}, "m")
    assert commands == ["set server mnist/b weight 9", "set server mnist/a weight 1"]


def test_what_is_as_it_should_be_gets_no_command() -> None:
    assert moving(worker({"mnist": {"a": Found(0, 1)}}), {"mnist": {"a": server("a")}}, "m") == []


def test_a_server_that_left_before_comes_back() -> None:
    found = worker({"mnist": {"a": Found(MAINTENANCE, 2)}})
    commands = moving(found, {"mnist": {"a": server("a")}}, "m")
    assert commands == ["set server mnist/a weight 1", "set server mnist/a state ready"]


def test_a_former_process_is_told_of_the_backends_that_it_has() -> None:
    former = worker({"mnist": {"a": Found(0, 1)}}, mark="other")
    desired = {"mnist": {"b": server("b")}, "mnist:green": {"b": server("b")}}
    commands = moving(former, desired, "m")
    assert any(command.startswith("add server mnist/b ") for command in commands)
    assert not any("mnist:green" in command for command in commands)


def test_what_is_drained_already_is_not_drained_again_but_is_left_to_remove() -> None:
    found = worker({"mnist": {"a": Found(DRAIN, 1), "b": Found(0, 1)}})
    desired = {"mnist": {"b": server("b")}}
    assert moving(found, desired, "m") == []
    assert left(found, desired) == ["mnist/a"]


def test_a_new_key_is_good_before_the_old_one_is_not() -> None:
    found = Worker(1, "m", keys={"OLD", "SAME"})
    assert keying(found, "/keys", ["SAME", "NEW"]) == ["add acl /keys NEW", "del acl /keys OLD"]


def test_a_certificate_is_set_only_where_another_is_shown() -> None:
    assert certifying(Worker(1, "m", fingerprint="A"), "/pem", "A") == []
    # A former process without TLS has no use for it.
    assert certifying(Worker(1, "m"), "/pem", "A") == []
    assert certifying(Worker(1, "m", fingerprint="B"), "/pem", "A") == [
        "set ssl cert /pem <</pem",
        "commit ssl cert /pem",
    ]


def test_every_difference_is_told() -> None:
    found = worker({"mnist": {"a": Found(MAINTENANCE, 1), "b": Found(0, 5), "x": Found(0, 1)}})
    desired = {"mnist": {"a": server("a"), "b": server("b"), "c": server("c")}}
    assert differences(found, desired, ["KEY"], "F") == [
        "the instance a is out of service in mnist",
        "the instance b has the weight 5 in mnist, not 1",
        "the instance c is missing in mnist",
        "mnist/x takes requests",
        "other keys are accepted",
        "another certificate is shown",
    ]
    same = worker({"mnist": {"a": Found(0, 1), "gone": Found(MAINTENANCE, 1)}})
    assert differences(same, {"mnist": {"a": server("a")}}, [], "") == []
