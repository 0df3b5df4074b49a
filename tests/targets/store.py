"""An S3 server for the tests: moto, with its check of keys and rights switched on.

Prints one line of JSON when it is ready: {"admin": [id, secret], "reader": [id, secret], "keeper": [id, secret]}.
Answers each line `uploads` with the number of unfinished multipart uploads, and ends with its input.
"""

import json
import os
import sys

# The set-up below is that many calls; every later one needs a key that is right and may do it.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "12"
for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
    os.environ.pop(name, None)

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

URL = f"http://127.0.0.1:{sys.argv[1]}"
REGION = "us-east-1"


def client(service, key=("setup", "setup")):
    return boto3.client(
        service, endpoint_url=URL, region_name=REGION, aws_access_key_id=key[0], aws_secret_access_key=key[1]
    )


def statement(effect, actions):
    return {"Effect": effect, "Action": actions, "Resource": "*"}


RIGHTS = {
    "admin": [statement("Allow", ["s3:*"])],
    "reader": [statement("Allow", ["s3:Get*", "s3:List*"])],
    "keeper": [statement("Allow", ["s3:*"]), statement("Deny", ["s3:DeleteObject", "s3:DeleteObjectVersion"])],
}

server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
s3, iam = client("s3"), client("iam")
s3.create_bucket(Bucket="backups")
s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
s3.put_object_lock_configuration(
    Bucket="locked",
    ObjectLockConfiguration={
        "ObjectLockEnabled": "Enabled",
        "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}},
    },
)
keys = {}
for user, rights in RIGHTS.items():
    iam.create_user(UserName=user)
    iam.put_user_policy(
        UserName=user,
        PolicyName="rights",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": rights}),
    )
    made = iam.create_access_key(UserName=user)["AccessKey"]
    keys[user] = [made["AccessKeyId"], made["SecretAccessKey"]]
print(json.dumps(keys), flush=True)
admin = client("s3", keys["admin"])
for line in sys.stdin:
    if line.strip() == "uploads":
        print(len(admin.list_multipart_uploads(Bucket="backups").get("Uploads", [])), flush=True)
