#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""spark_score.py - scores any number of pairs with Spark, through a pandas UDF.

    pip install pyspark pandas pyarrow rerankd-*.whl       # the wheel on every worker
    spark-submit spark_score.py --model /models/m --input 'pairs/*.jsonl' --output scores/

Input: JSONL with "query" and "document"; further columns are kept.  Output: Parquet with the column
"score".  Each Python worker opens the model once, whatever number of tasks it runs.  Set
spark.task.cpus to --threads, so that the workers of a machine do not fight for its processors.
"""
import argparse
from typing import Iterator, Tuple

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf

_models = {}  # of this Python worker


def model_of_this_worker(folder, threads):
    if folder not in _models:
        from rerankd import CrossEncoder
        _models[folder] = CrossEncoder(folder, threads=threads)
    return _models[folder]


def scorer(folder, threads):
    @pandas_udf("double")
    def score(batches: Iterator[Tuple[pd.Series, pd.Series]]) -> Iterator[pd.Series]:
        model = model_of_this_worker(folder, threads)
        for queries, documents in batches:
            yield pd.Series(model.predict(list(zip(queries, documents))), dtype="float64")
    return score


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--threads", type=int, default=2, help="of each Python worker")
    parser.add_argument("--partitions", type=int, default=0, help="0: as the input is split")
    args = parser.parse_args()
    spark = SparkSession.builder.appName("rerankd").getOrCreate()
    pairs = spark.read.json(args.input)
    if args.partitions:
        # pairs of a query together: they become one request
        pairs = pairs.repartition(args.partitions, "query").sortWithinPartitions("query")
    score = scorer(args.model, args.threads)
    pairs.withColumn("score", score("query", "document")).write.mode("error").parquet(args.output)
    spark.stop()


if __name__ == "__main__":
    main()
