"""What is computed of endpoints and lists of them join, and reports of detectors.

What is decided is in the state (collector/storage/state). Of it these tables have copies: the exposure and the open
findings of an endpoint, and what API descriptions say of it.
"""

from collector.storage.tables.layout import HOUR_RETENTION_DAYS, Table

REPORT_RETENTION_DAYS = 30

TABLES = (
    # collector.alerting.detection.PastReport, field by field: of what a preview of the levels is made. Append only.
    Table(
        name="detector_reports",
        columns="""
            time Float64
            kind LowCardinality(String)
            severity LowCardinality(String)
            quietest LowCardinality(String)
            endpoint_id String
            consumer String
            is_above Bool
            window_end Float64
            calm_seconds Float64
            measure Float64
            is_sure Bool
            outcome LowCardinality(String)
            rule_id String
        """,
        key="time",
        engine="MergeTree",
        expiry=f"toDateTime(time) + INTERVAL {REPORT_RETENTION_DAYS} DAY",
    ),
    # collector.risk.repository.RiskRecord; the newest of an endpoint holds. `explanation` is JSON
    # (collector.risk.formula). What is of findings and pasts is a copy from the state.
    Table(
        name="endpoint_risks",
        columns="""
            endpoint_id String
            computed_at Float64
            formula LowCardinality(String)
            score UInt8
            level LowCardinality(String)
            open_findings UInt16
            exposure LowCardinality(String)
            exposure_before LowCardinality(String)
            exposure_since Float64
            authenticated_at Float64
            method LowCardinality(String)
            host LowCardinality(String)
            url_template String
            service LowCardinality(String)
            explanation String CODEC(ZSTD(1))
            open_rules Array(LowCardinality(String))
            version UInt64 MATERIALIZED toUInt64(computed_at * 1000000)
        """,
        key="endpoint_id",
        expiry=f"toDateTime(computed_at) + INTERVAL {HOUR_RETENTION_DAYS} DAY",
    ),
    # What descriptions, which are in the state, say of endpoints as they are called. `status` is a SpecStatus;
    # `requires_authentication` is -1 where nothing is said. The version is one more than the newest that is there.
    Table(
        name="endpoint_specs",
        columns="""
            endpoint_id String
            status LowCardinality(String)
            spec String
            http_route String
            operation_id String
            is_deprecated UInt8
            requires_authentication Int8
            reason String
            version UInt64
        """,
        key="endpoint_id",
    ),
)
