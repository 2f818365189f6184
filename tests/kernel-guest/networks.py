"""Networks between two namespaces, "client" and "server", as people have them: with VLANs, IPv6, a link with a smaller
MTU on the way, and links that delay, reorder, duplicate and lose packets."""

import subprocess
from dataclasses import dataclass

from peers import required

# Each side's end of a link: `c-NAME` and `s-NAME`. A link is told what the scheduler does to its packets, both ways.
LINKS = {
    "plain": "",
    "tagged": "",
    "reorder": "delay 10ms 3ms reorder 30% 50%",
    "double": "duplicate 20%",
    "lossy": "delay 1ms loss 5%",
    "rough": "delay 8ms 3ms reorder 25% duplicate 5% loss 3%",
    "spanned": "",
}
# The mirror of `c-spanned`, as of a switch with too much to do: it loses packets that arrived.
SPAN, SPAN_LOSES = "span", "delay 5ms 2ms reorder 25% loss 3%"


@dataclass(frozen=True)
class Network:
    """A way from the client to the server, which listens on a port of its own there."""

    name: str
    # The client's interface, and the one below it.
    interface: str
    lower: str
    server: str
    port: int

    @property
    def authority(self):
        host = f"[{self.server}]" if ":" in self.server else self.server
        return f"{host}:{self.port}"

    @property
    def folder(self):
        """The first word of its paths."""
        return f"n{self.port}"


NETWORKS = [
    Network("IPv4, segments as large as the network card takes", "c-plain", "c-plain", "10.1.0.2", 8401),
    Network("IPv6", "c-plain", "c-plain", "fd00:1::2", 8402),
    Network("IPv4 in a VLAN", "c-tagged.5", "c-tagged", "10.2.0.2", 8403),
    Network("IPv6 in a VLAN", "c-tagged.5", "c-tagged", "fd00:2::2", 8404),
    Network("IPv4 in a VLAN in a provider's VLAN (802.1ad)", "c-tagged.9.7", "c-tagged", "10.3.0.2", 8405),
    Network("IPv4, cut into fragments on the way", "c-routed", "c-routed", "10.5.0.2", 8406),
    Network("reordered", "c-reorder", "c-reorder", "10.6.0.2", 8407),
    Network("duplicated", "c-double", "c-double", "10.7.0.2", 8408),
    Network("lost on the way", "c-lossy", "c-lossy", "10.8.0.2", 8409),
    Network("IPv6 in a VLAN; reordered, duplicated and lost", "c-rough.5", "c-rough", "fd00:9::2", 8410),
    Network("a mirror port that loses packets", "c-spanned", SPAN, "10.10.0.2", 8411),
]

# Of each interface: the number of its network.
NUMBERS = {
    "plain": 1,
    "tagged.5": 2,
    "tagged.9.7": 3,
    "reorder": 6,
    "double": 7,
    "lossy": 8,
    "rough.5": 9,
    "spanned": 10,
}


def inside(namespace, *command):
    """A command in a namespace, with the file systems as they are; `ip netns exec` mounts /sys anew."""
    return [required("nsenter"), f"--net=/run/netns/{namespace}", required(command[0]), *map(str, command[1:])]


def batch(program, namespace, lines):
    """Runs the commands of ip or tc."""
    done = subprocess.run(inside(namespace, program, "-batch", "-"), input="\n".join(lines) + "\n", text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{program} in {namespace} failed, see the log")


def create():
    for name in ["client", "router", "server"]:
        subprocess.run([required("ip"), "netns", "add", name], check=True)
    links = [f"link add c-{name} type veth peer name s-{name} netns server" for name in LINKS]
    routed = "link add c-routed type veth peer name r-client netns router"
    batch("ip", "client", [*links, routed, f"link add {SPAN} type dummy"])
    batch("ip", "router", ["link add r-server type veth peer name s-routed netns server"])
    for end, namespace in enumerate(["client", "server"], start=1):
        batch("ip", namespace, interfaces(namespace[0], end))
        batch("tc", namespace, schedulers(namespace[0]))
    route()
    span()
    for namespace, prefix in [("client", "c-"), ("server", "s-")]:
        for name in [*LINKS, "routed"]:
            if name != "plain":
                offload = inside(namespace, "ethtool", "-K", prefix + name, "tso", "off", "gso", "off", "gro", "off")
                subprocess.run(offload, check=True)


def interfaces(prefix, end):
    """Makes the VLANs and sets the addresses of one side."""
    for name in ["tagged", "rough"]:
        yield f"link add link {prefix}-{name} name {prefix}-{name}.5 type vlan id 5"
    yield f"link add link {prefix}-tagged name {prefix}-tagged.9 type vlan protocol 802.1ad id 9"
    yield f"link add link {prefix}-tagged.9 name {prefix}-tagged.9.7 type vlan id 7"
    for name, number in NUMBERS.items():
        yield f"addr add 10.{number}.0.{end}/24 dev {prefix}-{name}"
        yield f"addr add fd00:{number}::{end}/64 dev {prefix}-{name} nodad"
    for name in [*LINKS, "routed", "tagged.5", "tagged.9", "tagged.9.7", "rough.5"]:
        yield f"link set {prefix}-{name} up"
    yield "link set lo up"


def schedulers(prefix):
    for name, disorder in LINKS.items():
        if disorder:
            yield f"qdisc add dev {prefix}-{name} root netem limit 100000 {disorder}"


def route():
    """Two networks with a router between them, which cuts packets: senders are told not to forbid it."""
    batch("ip", "client", ["addr add 10.4.0.1/24 dev c-routed", "route add 10.5.0.0/24 via 10.4.0.254"])
    batch("ip", "server", ["addr add 10.5.0.2/24 dev s-routed", "route add 10.4.0.0/24 via 10.5.0.254"])
    ends = [("r-client", "10.4.0"), ("r-server", "10.5.0")]
    batch(
        "ip",
        "router",
        [
            *(f"addr add {network}.254/24 dev {name}" for name, network in ends),
            *(f"link set {name} up" for name, _ in ends),
            *(f"route replace {net}.0/24 dev {name} scope link src {net}.254 mtu lock 600" for name, net in ends),
        ],
    )
    for namespace, setting in [
        ("client", "ip_no_pmtu_disc"),
        ("server", "ip_no_pmtu_disc"),
        ("router", "ip_forward"),
    ]:
        subprocess.run(inside(namespace, "sh", "-c", f"echo 1 >/proc/sys/net/ipv4/{setting}"), check=True)


def span():
    """Both directions of `c-spanned` go to another interface, too."""
    batch("ip", "client", [f"link set {SPAN} up"])
    mirror = f"matchall action mirred egress mirror dev {SPAN}"
    batch(
        "tc",
        "client",
        [
            f"qdisc add dev {SPAN} root netem limit 100000 {SPAN_LOSES}",
            "qdisc add dev c-spanned clsact",
            f"filter add dev c-spanned ingress {mirror}",
            f"filter add dev c-spanned egress {mirror}",
        ],
    )
