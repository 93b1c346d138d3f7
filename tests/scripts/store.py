"""``python store.py BUCKET`` serves an object store with that bucket on this machine, until it is killed; it
prints the environment in which s3fs finds it. It needs moto and s3fs."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served(bucket: str) -> Iterator[dict[str, str]]:
    """Within, a store with that bucket can be had in the environment that is given."""
    import fsspec
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    found = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:{1}".format(*server.get_host_and_port()),
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    own = {"endpoint_url": found["AWS_ENDPOINT_URL"], "key": "tests", "secret": "tests"}
    fsspec.filesystem("s3", **own).mkdir(bucket)
    try:
        yield found
    finally:
        server.stop()


if __name__ == "__main__":
    with served(sys.argv[1]) as environment:
        print(json.dumps(environment), flush=True)
        while os.getppid() != 1:
            time.sleep(1)
