"""bench.facts: versions out of what programs say of themselves."""

from __future__ import annotations

from bench.facts import (
    commits,
    haproxy_versions,
    interpreter_build,
    machine,
    nginx_versions,
    stunnel_versions,
    versions,
)

HAPROXY = """\
HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/
Status: long-term supported branch
Built with OpenSSL version : OpenSSL 3.0.21 1 Jul 2026
Running on OpenSSL version : OpenSSL 3.0.22 25 Aug 2026
"""
NGINX = """\
nginx version: nginx/1.22.1
built with OpenSSL 3.0.21 1 Jul 2026 (running with OpenSSL 3.0.22 25 Aug 2026)
TLS SNI support enabled
"""


def test_the_openssl_that_runs_counts_not_the_one_built_with() -> None:
    """The library is shared: it is what spends the time."""
    assert haproxy_versions(HAPROXY) == {
        "haproxy": "2.6.12-1+deb12u4",
        "haproxy_openssl": "OpenSSL 3.0.22 25 Aug 2026",
    }
    assert nginx_versions(NGINX) == {
        "nginx": "1.22.1",
        "nginx_openssl": "OpenSSL 3.0.22 25 Aug 2026",
    }


def test_nginx_names_one_openssl_when_both_are_the_same() -> None:
    """Then that one runs."""
    said = "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.22 25 Aug 2026\n"
    assert nginx_versions(said)["nginx_openssl"] == "OpenSSL 3.0.22 25 Aug 2026"


def test_stunnel_names_one_openssl_or_two() -> None:
    """The one that runs counts."""
    said = "stunnel 5.68 on x86_64-pc-linux-gnu platform\nCompiled with OpenSSL 3.0.9 30 May 2023\n"
    running = "Running  with OpenSSL 3.0.22 25 Aug 2026\n"
    both = "Compiled/running with OpenSSL 3.0.22 25 Aug 2026\n"
    for more in (running, both):
        assert stunnel_versions(said + more) == {
            "stunnel": "5.68",
            "stunnel_openssl": "OpenSSL 3.0.22 25 Aug 2026",
        }


def test_an_interpreter_is_known_by_what_it_was_configured_and_compiled_with() -> None:
    """By configure's options, or by the compiler's."""
    for options, flags in (
        ("'--enable-optimizations' '--with-lto'", "-O3 -Wall"),
        ("'--prefix=/usr'", "-O2 -flto=auto -fprofile-use -O3"),
    ):
        assert interpreter_build({"CONFIG_ARGS": options, "PY_CFLAGS": flags}) == {
            "python_is_profiled": "true",
            "python_is_link_time_optimized": "true",
            "python_optimization": "-O3",
        }


def test_the_commit_is_the_checkout_s_and_the_core_s() -> None:
    """They are one where the checkout itself runs; empty where there is no git."""
    found = commits()
    assert set(found) == {"commit", "core_commit"}
    assert found["commit"].rstrip("+").isalnum() or not found["commit"]


def test_what_is_absent_is_an_empty_string() -> None:
    """The keys stay."""
    assert set(haproxy_versions("").values()) == {""}
    assert set(stunnel_versions("").values()) == {""}
    assert set(interpreter_build({}).values()) == {""}


def test_facts_name_python_kernel_and_processor() -> None:
    """Without them a figure says nothing."""
    found = versions()
    assert found["python"].startswith("3.")
    assert found["python_openssl"].startswith("OpenSSL")
    assert machine(1)["usable_cpus"] == 1
    assert machine(1)["kernel"]
