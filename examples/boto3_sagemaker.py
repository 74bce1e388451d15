"""Ask the model `diabetes` through boto3's SageMaker runtime client, which knows nothing of vedette."""

from __future__ import annotations

import argparse
import json

import boto3
from botocore.exceptions import ClientError
from sklearn.datasets import load_diabetes


def main() -> None:
    """The same rows as CSV and as JSON, and an error in AWS's shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inference", default="http://127.0.0.1:8080")
    arguments = parser.parse_args()

    runtime = boto3.client(
        "sagemaker-runtime",
        endpoint_url=arguments.inference,
        region_name="local",  # boto3 insists on a region and on keys; vedette reads neither
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    rows = load_diabetes().data[:5].round(4).tolist()

    text = "\n".join(",".join(map(str, row)) for row in rows)
    answer = runtime.invoke_endpoint(EndpointName="diabetes", ContentType="text/csv", Accept="text/csv", Body=text)
    print("csv: ", answer["Body"].read().decode().split(), "by", answer["InvokedProductionVariant"])

    body = json.dumps({"instances": rows})
    answer = runtime.invoke_endpoint(EndpointName="diabetes", ContentType="application/json", Body=body)
    print("json:", json.loads(answer["Body"].read()))

    try:
        runtime.invoke_endpoint(EndpointName="nobody", ContentType="text/csv", Body="1,2")
    except ClientError as error:
        print("error:", error.response["Error"]["Code"], error.response["Error"]["Message"])


if __name__ == "__main__":
    main()
