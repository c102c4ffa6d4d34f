"""What the commands share: options, exit statuses, stopping, and what they print. No commands themselves."""

import sys

if sys.argv[0] == "-m":  # as long as `python -m` looks for the module that it is to run
    print(
        "error: jobs.support has no commands; run one of jobs, such as python -m jobs.study", file=sys.stderr
    )
    sys.exit(2)
