//! A processor of a stage that is to stand still, and all who are to say so: its log, its metrics and `/readyz`, the
//! server's `/pipeline`, the doctor.

use std::time::{Duration, Instant};

use crate::api::Api;
use crate::fleet::Process;
use crate::stage::{self, PATIENCE, Stage};
use crate::support::ports::free_address;
use crate::table::Row;
use crate::wait::{limit, wait_for, wait_until};

/// Everybody is told of a standstill within this.
const TOLD: Duration = limit(Duration::from_secs(90));

/// See the module.
pub struct Watched {
    pub process: Process,
    metrics: String,
    server: Process,
    pipeline: String,
    api: Api,
}

impl Watched {
    /// Starts the processor, with what it is told besides, and the server.
    pub fn start(stage: &mut Stage, args: &[&str]) -> anyhow::Result<Watched> {
        let metrics = free_address();
        let own = ["--metrics-listen", &metrics, "--standstill-after", "5s"];
        let args: Vec<&str> = own.iter().chain(args).copied().collect();
        let process = stage.start("process", &args)?;
        let server = stage.serve()?;
        let pipeline = stage.target.servers.last();
        Ok(Watched {
            process,
            pipeline: format!("{}/pipeline", pipeline.map_or("", String::as_str)),
            metrics: format!("http://{metrics}"),
            server,
            api: Api::new(),
        })
    }

    /// Waits until everybody says that a partition stands still and why, and notes how long that took, or who did not.
    pub fn is_seen(
        &self,
        stage: &Stage,
        partition: i32,
        cause: &str,
        row: &mut Row,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut silent = Vec::new();
        let seen = wait_for(TOLD, || {
            silent = self.silent(stage, partition, cause)?;
            Ok(silent.is_empty().then_some(()))
        })?;
        match seen {
            Some(()) => row.recovered(began.elapsed()),
            None => row.violation(format!(
                "{TOLD:?} after partition {partition} stood still because of {cause}, that is not told by {silent:?}"
            )),
        }
        Ok(())
    }

    /// Who does not say it.
    fn silent(&self, stage: &Stage, partition: i32, cause: &str) -> anyhow::Result<Vec<String>> {
        let mut silent = Vec::new();
        let topic = &stage.target.topic;
        // Where it is all of them, whoever has none of them says so.
        let places = [
            format!("{topic}[{partition}]"),
            format!("no partition of {topic}"),
        ];
        let log = std::fs::read_to_string(&self.process.log)?;
        let is_told = |line: &str| {
            let is_warning = line.contains(" WARN ") || line.contains(" ERROR]");
            is_warning && places.iter().any(|p| line.contains(p)) && line.contains(cause)
        };
        if !log.lines().any(is_told) {
            silent.push("the log".to_owned());
        }
        let endpoints = [
            (
                format!("{}/metrics", self.metrics),
                200,
                format!("adflux_standstill{{cause=\"{cause}\"}} 1"),
            ),
            (
                format!("{}/readyz", self.metrics),
                503,
                format!("\"standstill\":\"{cause}\""),
            ),
            (self.pipeline.clone(), 200, format!("\"cause\":\"{cause}\"")),
        ];
        for (url, status, text) in endpoints {
            let told = self.api.get(&url);
            if !told.is_ok_and(|(s, body)| s == status && body.contains(&text)) {
                silent.push(url);
            }
        }
        // It takes longer than all the others.
        if silent.is_empty() {
            let (is_well, told) = stage.run("doctor", &["--listen", "127.0.0.1:0"])?;
            if is_well || !told.contains(cause) {
                silent.push("the doctor".to_owned());
            }
        }
        Ok(silent)
    }

    /// Waits until the processor is ready.
    pub fn is_ready(&self) -> anyhow::Result<()> {
        let url = format!("{}/readyz", self.metrics);
        wait_until(PATIENCE, "the processor is ready", || {
            Ok(self.api.get(&url).is_ok_and(|(status, _)| status == 200))
        })
    }

    /// Ends both.
    pub fn end(mut self, stage: &mut Stage) -> anyhow::Result<()> {
        stage::end(&mut self.process)?;
        stage.target.servers.clear();
        stage::end(&mut self.server)
    }
}
