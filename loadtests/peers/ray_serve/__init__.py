"""Ray Serve: one replica in a cluster of one node."""

from loadtests.peers import Peer

PEER = Peer(
    name="Ray Serve",
    folder="ray_serve",
    speaks=("json", "binary"),
    env=(
        # As "Enable throughput-optimized flags" and "Enable High Throughput" of Serve's guides advise.
        ("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1"),
        ("RAY_SERVE_ENABLE_HA_PROXY", "1"),
        ("RAY_SERVE_HAPROXY_NBTHREAD", "1"),
        # On one busy CPU its health checks come late: two of them would take the only replica out for a moment (503).
        ("RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL", "20"),
        # One machine, loopback only: nothing is sent out, no token is kept in the user's home.
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("RAY_AUTH_MODE", "disabled"),
        # Six processes start on the same CPUs: with bytecode kept, and with patience.
        ("PYTHONDONTWRITEBYTECODE", ""),
        ("RAY_raylet_start_wait_time_s", "120"),
        ("RAY_agent_register_timeout_ms", "120000"),
    ),
    note=(
        "Ray Serve 2.60.0, a cluster of one node with one CPU and no dashboard, one replica for all models "
        "(max_ongoing_requests 1000). RAY_SERVE_THROUGHPUT_OPTIMIZED and HAProxy as its ingress (one thread) as its "
        "performance and high-throughput guides advise: about eight times its defaults. Starlette's request as it "
        "is, no FastAPI, access log off. Processes: the replica, and what it cannot do without: HAProxy, its "
        "manager, proxy, controller, raylet, gcs_server, agents, monitors, driver. It has no metrics of its own on a "
        "port here: the statuses that the generator counts are all that is known of failures."
    ),
)
