"""The pipeline on the server profile of docs/server.md: the same results as the embedded profile, on several machines."""

from server.conftest import commands


def test_once(profile):
    admin = profile.machine("admin")
    for command in commands("once", profile):
        print(command, admin.run(command))
