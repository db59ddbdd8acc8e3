//! Sums by minute, of the events that are stored and of those that were dropped; and where two such selections differ.

/// The sums by minute of the events of blocks `b`.
pub(super) fn of_blocks(blocks: &str) -> String {
    format!(
        r#"SELECT e.campaign_id COLLATE "C" AS campaign_id,
             date_bin('1 minute', e.event_time, timestamptz 'epoch') AS start, e.platform,
             count(*) AS events, sum(e.impressions) AS impressions, sum(e.clicks) AS clicks,
             trim_scale(sum(e.conversions) + COALESCE(sum(e.conversion_millionths), 0) * 0.000001) AS conversions,
             sum(e.cost_micros) AS cost_micros, sum(e.revenue_micros) AS revenue_micros
         FROM event_blocks AS b
         CROSS JOIN LATERAL unnest(b.campaign_id, b.event_time, b.platform, b.impressions, b.clicks, b.conversions,
                 b.conversion_millionths, b.cost_micros, b.revenue_micros)
             AS e (campaign_id, event_time, platform, impressions, clicks, conversions, conversion_millionths,
                   cost_micros, revenue_micros)
         WHERE {blocks} GROUP BY 1, 2, 3"#
    )
}

/// The sums by minute of the events that were dropped, of parts `p`.
pub(super) fn of_dropped(parts: &str) -> String {
    format!(
        "SELECT c.campaign_id, c.start, c.platform, sum(c.events) AS events, sum(c.impressions) AS impressions,
             sum(c.clicks) AS clicks, trim_scale(sum(c.conversions)) AS conversions, sum(c.cost_micros) AS cost_micros,
             sum(c.revenue_micros) AS revenue_micros
         FROM retired_cells AS c JOIN retired_parts AS p USING (stream_id, part_id)
         WHERE {parts} GROUP BY 1, 2, 3"
    )
}

/// The first value in which two selections of sums by (campaign_id, start, platform) differ. `more`
/// are columns to compare besides the sums.
pub(super) fn compare_sums(truth: &str, projection: &str, more: &str) -> String {
    let columns =
        format!("events, impressions, clicks, conversions, cost_micros, revenue_micros{more}");
    let list = |prefix: &str| -> Vec<String> {
        columns
            .split(", ")
            .map(|column| format!("{prefix}{column}"))
            .collect()
    };
    let values: Vec<String> = columns
        .split(", ")
        .enumerate()
        .map(|(rank, c)| format!("({rank}, '{c}', d.t_{c}::text, d.p_{c}::text)"))
        .collect();
    let pick = |side: &str, prefix: &str| -> String {
        let picked: Vec<String> = columns
            .split(", ")
            .map(|c| format!("{side}.{c} AS {prefix}{c}"))
            .collect();
        picked.join(", ")
    };
    format!(
        "SELECT format('campaign %s on %s%s, %s', d.campaign_id, platform_name(d.platform),
             CASE d.start WHEN timestamptz 'epoch' THEN '' ELSE ' at ' || d.start END, v.what) AS place,
             COALESCE(v.truth, 'no such row') AS one, COALESCE(v.projected, 'no such row') AS other
         FROM (SELECT COALESCE(t.campaign_id, p.campaign_id) AS campaign_id, COALESCE(t.start, p.start) AS start,
                   COALESCE(t.platform, p.platform) AS platform, {}, {}
               FROM ({truth}) AS t
               FULL JOIN ({projection}) AS p
                   ON p.campaign_id = t.campaign_id AND p.start = t.start AND p.platform = t.platform
               WHERE ({}) IS DISTINCT FROM ({})
               ORDER BY 1, 2, 3 LIMIT 1) AS d
         CROSS JOIN LATERAL (VALUES {}) AS v (rank, what, truth, projected)
         WHERE v.truth IS DISTINCT FROM v.projected
         ORDER BY v.rank LIMIT 1",
        pick("t", "t_"),
        pick("p", "p_"),
        list("t.").join(", "),
        list("p.").join(", "),
        values.join(", "),
    )
}
