//! What each platform's answers look like, its tap's too: a table of paths.

use crate::event::Platform;
use crate::reports::json::Flat;

/// Where a shape has what.
#[derive(Debug)]
pub(super) struct Paths {
    pub platform: Platform,
    pub name: &'static str,
    pub day: &'static [&'static str],
    pub day_end: &'static [&'static str],
    pub campaign_id: &'static [&'static str],
    pub campaign_name: &'static [&'static str],
    pub account: &'static [&'static str],
    pub currency: &'static [&'static str],
    pub zone: &'static [&'static str],
    pub impressions: &'static [&'static str],
    pub clicks: &'static [&'static str],
    /// In millionths already.
    pub micros: &'static [&'static str],
    pub cost: &'static [&'static str],
    pub conversions: &'static [&'static str],
    pub revenue: &'static [&'static str],
    pub slices: &'static [(&'static str, &'static [&'static str])],
    /// Where the platform's other numbers are, for `--conversions` and `--revenue`.
    pub metrics: &'static [&'static str],
}

static GOOGLE: Paths = Paths {
    platform: Platform::Google,
    name: "Google Ads API",
    day: &["segments.date", "date"],
    day_end: &[],
    campaign_id: &["campaign.id", "campaign_id"],
    campaign_name: &["campaign.name", "campaign_name"],
    account: &["customer.id", "customer_id"],
    currency: &["customer.currency_code", "customer_currency_code"],
    zone: &["customer.time_zone", "customer_time_zone"],
    impressions: &["metrics.impressions", "impressions"],
    clicks: &["metrics.clicks", "clicks"],
    micros: &["metrics.cost_micros", "cost_micros"],
    cost: &[],
    conversions: &["metrics.conversions", "conversions"],
    revenue: &["metrics.conversions_value", "conversions_value"],
    slices: &[
        ("ad", &["ad_group_ad.ad.id", "ad_id"]),
        ("ad_group", &["ad_group.id", "ad_group_id"]),
        (
            "conversion_action",
            &["segments.conversion_action", "conversion_action"],
        ),
        ("device", &["segments.device", "device"]),
        ("hour", &["segments.hour", "hour"]),
        ("keyword", &["ad_group_criterion.criterion_id"]),
        ("network", &["segments.ad_network_type", "ad_network_type"]),
        ("slot", &["segments.slot"]),
    ],
    metrics: &["metrics.", ""],
};

static META: Paths = Paths {
    platform: Platform::Meta,
    name: "Meta insights",
    day: &["date_start"],
    day_end: &["date_stop"],
    campaign_id: &["campaign_id"],
    campaign_name: &["campaign_name"],
    account: &["account_id"],
    currency: &["account_currency"],
    zone: &[],
    impressions: &["impressions"],
    clicks: &["clicks"],
    micros: &[],
    cost: &["spend"],
    conversions: &[],
    revenue: &[],
    slices: &[
        ("ad", &["ad_id"]),
        ("ad_set", &["adset_id"]),
        ("age", &["age"]),
        ("country", &["country"]),
        ("device", &["impression_device"]),
        ("device_platform", &["device_platform"]),
        ("gender", &["gender"]),
        ("hour", &["hourly_stats_aggregated_by_advertiser_time_zone"]),
        ("placement", &["platform_position"]),
        ("publisher", &["publisher_platform"]),
        ("region", &["region"]),
    ],
    metrics: &[],
};

static TIKTOK: Paths = Paths {
    platform: Platform::TikTok,
    name: "TikTok reports",
    day: &["dimensions.stat_time_day", "stat_time_day"],
    day_end: &[],
    campaign_id: &[
        "dimensions.campaign_id",
        "metrics.campaign_id",
        "campaign_id",
    ],
    campaign_name: &["metrics.campaign_name", "campaign_name"],
    account: &[
        "dimensions.advertiser_id",
        "metrics.advertiser_id",
        "advertiser_id",
    ],
    currency: &["metrics.currency", "currency"],
    zone: &[],
    impressions: &["metrics.impressions", "impressions"],
    clicks: &["metrics.clicks", "clicks"],
    micros: &[],
    cost: &["metrics.spend", "spend"],
    conversions: &["metrics.conversion", "conversion"],
    // It is called a rate, and is an amount of money.
    revenue: &[
        "metrics.total_complete_payment_rate",
        "total_complete_payment_rate",
    ],
    slices: &[
        ("ad", &["dimensions.ad_id", "ad_id"]),
        ("ad_group", &["dimensions.adgroup_id", "adgroup_id"]),
        ("age", &["dimensions.age", "age"]),
        ("country", &["dimensions.country_code", "country_code"]),
        ("gender", &["dimensions.gender", "gender"]),
        ("placement", &["dimensions.placement", "placement"]),
        ("platform", &["dimensions.platform"]),
    ],
    metrics: &["metrics.", ""],
};

static LINKEDIN: Paths = Paths {
    platform: Platform::LinkedIn,
    name: "LinkedIn adAnalytics",
    day: &["start_at"],
    day_end: &["end_at"],
    campaign_id: &["campaign_id"],
    campaign_name: &["campaign_name", "campaign"],
    account: &["account_id"],
    currency: &[],
    zone: &[],
    impressions: &["impressions"],
    clicks: &["clicks"],
    micros: &[],
    cost: &["cost_in_local_currency"],
    conversions: &["external_website_conversions"],
    revenue: &["conversion_value_in_local_currency"],
    slices: &[("creative", &["creative_id"])],
    metrics: &[""],
};

/// Whose report it is, from what it has.
pub(super) fn recognised(flat: &Flat) -> Option<&'static Paths> {
    let has = |path: &str| flat.raw(path).is_some();
    let begins = |start: &str| flat.paths().any(|path| path.starts_with(start));
    if begins("metrics.") && (begins("dimensions.") || has("stat_time_day")) {
        Some(&TIKTOK)
    } else if begins("metrics.") && (begins("campaign.") || begins("segments.")) {
        Some(&GOOGLE)
    } else if has("stat_time_day") {
        Some(&TIKTOK)
    } else if begins("date_range.start.") || has("cost_in_local_currency") {
        Some(&LINKEDIN)
    } else if has("date_start") && has("date_stop") {
        Some(&META)
    } else if has("date") && (has("cost_micros") || has("customer_id")) {
        Some(&GOOGLE)
    } else {
        None
    }
}
