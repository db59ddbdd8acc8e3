//! The program: logging, signals, exit codes, and what each subcommand calls.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use adflux::codec::SchemaIds;
use adflux::config::{
    self, DatabaseArgs, FramingArgs, MetricsArgs, MigrationArgs, RedisArgs, ServeArgs, ShardsArgs,
    WriterArgs,
};
use adflux::import::databases::Urls;
use adflux::keys;
use adflux::offset::Offset;
use adflux::run::{Processing, ServeSettings};
use adflux::store::keep::rebuild_as_of;
use adflux::store::read::dead_letters::Filter;
use adflux::store::read::export::Range;
use adflux::store::{self, Limits};
use adflux::time::rfc3339_exact;
use adflux::{
    alerts, api, demo, dlq, doctor, erase, expected, export, import, processor, rates, retain, run,
    schema_registry, simulate, skip, terminal, traces,
};
use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::{CommandFactory as _, FromArgMatches as _};
use log::Level;
use tokio::sync::mpsc::unbounded_channel;

mod cli;

use cli::{
    AlertsCommand, Cli, Command, DlqCommand, DocumentFormat, ExportWhat, ImportCommand,
    KeysCommand, RatesCommand, SchemasCommand,
};

fn main() -> ExitCode {
    // OpenSSL would otherwise clear itself away when the process exits, while librdkafka's last threads still end
    // in it: one in many exits of a busy machine was a segmentation fault. Whoever calls it first decides.
    openssl::init();
    let command = match command_line() {
        Ok(command) => command,
        Err(error) => error.exit(),
    };
    // The demo talks to a person; of its parts only what goes wrong is of interest.
    let default = if matches!(command, Command::Demo { .. }) {
        Level::Warn
    } else {
        Level::Info
    };
    terminal::start_log(default);
    match execute(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read what we print has seen enough: `adflux dlq list | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        // What and why was written where it was asked for.
        Err(error) if error.is::<import::Refused>() => ExitCode::from(2),
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command_line() -> Result<Command, clap::Error> {
    let cli = config::with_secrets_from_files(Cli::command())?;
    let cli = config::without_empty_variables(cli);
    Ok(Cli::from_arg_matches(&cli.get_matches())?.command)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        // A CSV error does not name its cause.
        let of_csv = cause.downcast_ref::<csv::Error>().map(csv::Error::kind);
        let io = match of_csv {
            Some(csv::ErrorKind::Io(io)) => Some(io),
            _ => cause.downcast_ref::<io::Error>(),
        };
        io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// A flag that SIGINT and SIGTERM set; a second signal ends the process at once.
fn stop_on_signal() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for &signal in &[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn serve_settings(
    database: &DatabaseArgs,
    migration: MigrationArgs,
    redis: &RedisArgs,
    serve: &ServeArgs,
    topic: &str,
    framing: &FramingArgs,
    writers: &WriterArgs,
) -> anyhow::Result<ServeSettings> {
    Ok(ServeSettings {
        database_url: database.database_url.clone(),
        shards: serve.shards.read()?,
        may_migrate: !migration.no_migrate,
        redis: redis.servers()?,
        connections: serve.api_connections,
        fresh_for: serve.cache_fresh,
        topic: topic.to_owned(),
        schema_ids: framing.schema.ids(),
        finding: framing.finding(topic)?,
        writer_schemas: writers.writer_schemas.clone(),
        brokers: None,
        originals: None,
        api: serve.api(),
    })
}

/// The ids to frame with what is sent now; where nothing is sent, nobody is asked for them.
fn ids_to_send(framing: &FramingArgs, topic: &str, dry_run: bool) -> anyhow::Result<SchemaIds> {
    if dry_run {
        return Ok(framing.schema.ids());
    }
    framing.ids(topic)
}

fn tell_how_it_is(metrics: MetricsArgs) -> anyhow::Result<()> {
    metrics
        .metrics_listen
        .map_or(Ok(()), run::metrics_in_background)
}

/// Does what was asked. `false` if a check found something wrong.
fn execute(command: Command) -> anyhow::Result<bool> {
    let _traces = command.has_records().then(traces::start).transpose()?;
    match command {
        Command::Demo {
            data,
            length,
            postgres_port,
            topic,
            schema,
            mut simulate,
            process,
            serve,
        } => {
            // A week, and then a pace that a person can follow.
            simulate
                .backfill
                .get_or_insert(Duration::from_secs(7 * 86_400));
            simulate.rate.get_or_insert(simulate::Rate::PerSecond(1.0));
            let settings = demo::Settings {
                data,
                length,
                postgres_port,
                topic,
                simulate,
                process,
                serve,
                schema,
            };
            demo::run(&settings, &stop_on_signal()?)?;
        }
        Command::Run {
            kafka,
            framing,
            database,
            migration,
            redis,
            simulate,
            process,
            serve,
        } => {
            let stop = stop_on_signal()?;
            let Some(ids) = framing.await_ids(&kafka.topic, &stop)? else {
                return Ok(true);
            };
            let listener = run::listen_on(serve.listen, "--listen")?;
            log::info!("answering on http://{}", serve.listen);
            run::all(
                &simulate.settings(&kafka, ids),
                &Processing {
                    settings: process.settings(
                        &kafka,
                        &database,
                        framing.schema,
                        &framing.registry,
                    )?,
                    part: None,
                    may_migrate: !migration.no_migrate,
                    alerts: process.alerts(serve.restating)?,
                },
                ServeSettings {
                    brokers: Some(api::Brokers {
                        cluster: kafka.cluster(),
                        cluster_id: None,
                    }),
                    ..serve_settings(
                        &database,
                        migration,
                        &redis,
                        &serve,
                        &kafka.topic,
                        &framing,
                        &process.writers,
                    )?
                },
                listener,
                &Arc::new(AtomicU64::new(0)),
                &|_| true,
                &stop,
            )?;
        }
        Command::Simulate {
            kafka,
            framing,
            simulate,
            reports,
            metrics,
        } => {
            if let Some((folder, settings)) = reports.settings(&simulate)? {
                let mut out = terminal::out();
                if settings.forms.is_empty() {
                    let stop = stop_on_signal()?;
                    let Some(ids) = framing.await_ids(&kafka.topic, &stop)? else {
                        return Ok(true);
                    };
                    let to = simulate.settings(&kafka, ids);
                    simulate::reports::send(&mut out, folder, &settings, &to, ids.report, &stop)?;
                } else {
                    simulate::reports::run(&mut out, folder, &settings)?;
                }
                return Ok(true);
            }
            tell_how_it_is(metrics)?;
            let stop = stop_on_signal()?;
            let Some(ids) = framing.await_ids(&kafka.topic, &stop)? else {
                return Ok(true);
            };
            let sent = simulate::run(&simulate.settings(&kafka, ids), &stop, &|_| true)?;
            write!(io::stdout(), "{}", sent.ledger)?;
            if sent.failed > 0 {
                anyhow::bail!("{} of these records were not delivered", sent.failed);
            }
        }
        Command::Process {
            kafka,
            schema,
            registry,
            database,
            migration,
            redis,
            process,
            restating,
            partitions,
            until_end,
            metrics,
        } => {
            let stop = stop_on_signal()?;
            let alerts = process.alerts(restating)?;
            tell_how_it_is(metrics)?;
            let settings = processor::Settings {
                until_end,
                ..process.settings(&kafka, &database, schema, &registry)?
            };
            let processing = Processing {
                settings,
                part: partitions,
                may_migrate: !migration.no_migrate,
                alerts,
            };
            let report = run::process(&processing, redis.servers()?.as_ref(), None, None, &stop)?;
            log::info!(
                "stopped: {} records in {} batches: {}",
                report.records,
                report.batches,
                report.outcomes()
            );
        }
        Command::Serve {
            database,
            migration,
            redis,
            framing,
            writers,
            topic,
            intake,
            serve,
        } => {
            let stop = stop_on_signal()?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            let settings = ServeSettings {
                brokers: intake.brokers(),
                originals: intake.originals,
                ..serve_settings(
                    &database, migration, &redis, &serve, &topic, &framing, &writers,
                )?
            };
            let listener = run::listen_on(serve.listen, "--listen")?;
            log::info!("answering on http://{}", serve.listen);
            runtime.block_on(async {
                run::serve(settings, listener, unbounded_channel(), stop).await
            })?;
        }
        Command::Migrate {
            database,
            drop_replaced: true,
            ..
        } => {
            let dropped = store::drop_replaced(&database.database_url)?;
            let said = if dropped {
                "dropped the tables that were replaced"
            } else {
                "no table is left that was replaced"
            };
            writeln!(terminal::out(), "{said}")?;
        }
        Command::Migrate {
            database, shard, ..
        } => {
            let run = store::migrate(&database.database_url)?;
            let mut out = terminal::out();
            if run.is_empty() {
                writeln!(out, "the schema is up to date")?;
            }
            for version in run {
                writeln!(out, "ran migration {version}")?;
            }
            if let Some(shard) = shard {
                let mut connection = store::open(&database.database_url, Limits::MAINTENANCE)?;
                let has = match store::shard::set(&mut connection, shard)? {
                    true => "has",
                    false => "has already",
                };
                writeln!(out, "the database {has} the partitions {shard}")?;
            }
        }
        Command::Rebuild {
            database,
            as_of: None,
            ..
        } => rebuild(&database.database_url)?,
        Command::Rebuild {
            database,
            as_of: Some(instant),
            into,
        } => rebuild_as_of(&database.database_url, instant, into)?,
        Command::Retain {
            database,
            events,
            period,
            originals,
            dry_run,
            format,
        } => {
            let report = retain::run(&retain::Settings {
                database_url: database.database_url,
                events,
                period,
                originals,
                dry_run,
            })?;
            let out = &mut terminal::out();
            match format {
                import::Format::Text => report.write(out)?,
                import::Format::Json => {
                    writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?
                }
            }
        }
        Command::Verify { database } => return verify(&database.database_url),
        Command::Skip {
            kafka,
            database,
            partition,
            from,
            to,
            reason,
        } => {
            let skipped = skip::run(&skip::Settings {
                cluster: kafka.cluster(),
                topic: kafka.topic.clone(),
                database_url: database.database_url,
                partition,
                from: Offset::new(from),
                to: to.map(Offset::new),
                reason,
                cluster_id: None,
            })?;
            writeln!(
                terminal::out(),
                "{}[{partition}]: gave up offsets {} to {}; it goes on from {}",
                kafka.topic,
                skipped.start,
                skipped.end.previous(),
                skipped.end
            )?;
        }
        Command::Dlq { command } => return dead_letters(command),
        Command::Export { database, what } => export(&database.database_url, what)?,
        Command::Import {
            command: Some(command),
            ..
        } => imported(command)?,
        Command::Import {
            command: None,
            kafka,
            framing,
            database,
            shards,
            report,
            originals,
            files,
            complete,
            replace,
            dry_run,
            wait,
            cluster_id,
            format,
        } => {
            let settings = import::Settings {
                files,
                options: report.options(),
                cluster: kafka.cluster(),
                schema_ids: ids_to_send(&framing, &kafka.topic, dry_run)?,
                topic: kafka.topic,
                databases: databases(database, &shards)?,
                orders: import::compare::Orders { complete, replace },
                originals: originals.originals,
                dry_run,
                wait,
                cluster_id,
                format,
            };
            import::run(&settings, stop_on_signal)?;
        }
        Command::Rates { command } => rates(command)?,
        Command::Expect {
            database,
            account,
            backtest,
            hide,
            format,
        } => {
            let question = expected::command::Question {
                account,
                backtest,
                hide,
            };
            expected::command::run(&database.database_url, &question, format)?;
        }
        Command::Erase {
            what,
            database,
            redis,
            originals,
            schema,
            registry,
            writers,
            dry_run,
            yes,
            format,
            certificate,
        } => {
            let schema_registry = registry.settings()?;
            let subject = what
                .subject()
                .context("what is to be erased was not said")?;
            let settings = erase::Settings {
                database_url: database.database_url,
                subject,
                redis: redis.servers()?,
                originals: originals.originals,
                schema_ids: schema.known(schema_registry.as_ref()),
                writer_schemas: writers.writer_schemas,
                schema_registry,
                dry_run,
                yes,
                format,
                certificate,
            };
            erase::run(&mut terminal::out(), &settings)?;
        }
        Command::Keys {
            database,
            migration,
            command,
        } => keys(&database.database_url, migration, command)?,
        Command::Schemas {
            command:
                SchemasCommand::Register {
                    topic,
                    registry,
                    subjects,
                },
        } => {
            let Some(registry) = registry.settings()? else {
                anyhow::bail!(
                    "where to? --schema-registry (SCHEMA_REGISTRY_URL) says where the registry is"
                );
            };
            let subjects = subjects.subject_strategy;
            let out = &mut terminal::out();
            schema_registry::command::register(out, &registry, &topic, subjects)?;
        }
        Command::Alerts { command } => alerts(command)?,
        Command::Doctor {
            kafka,
            database,
            redis,
            registry,
            subjects,
            listen,
            group,
            restored,
        } => {
            let settings = doctor::Settings {
                cluster: kafka.cluster(),
                redis: redis.servers(),
                registry: registry.finding(&kafka.topic, subjects),
                topic: kafka.topic,
                database_url: database.database_url,
                listen,
                restored: restored.then_some(group),
            };
            return Ok(doctor::run(&mut terminal::out(), settings)?);
        }
        Command::Openapi { format } => match format {
            DocumentFormat::Json => writeln!(io::stdout(), "{:#}", api::openapi())?,
            DocumentFormat::Markdown => write!(io::stdout(), "{}", api::endpoint_tables())?,
        },
        Command::Healthcheck { url } => return doctor::answers_with_success(&url),
    }
    Ok(true)
}

/// What is asked of the dead letters. `false` if something could not be done.
fn dead_letters(command: DlqCommand) -> anyhow::Result<bool> {
    let mut out = terminal::out();
    match command {
        DlqCommand::List {
            database,
            reason,
            topic,
            partition,
            redriven,
            limit,
        } => {
            let filter = Filter {
                reason,
                topic,
                partition,
                redriven,
                ..Filter::default()
            };
            dlq::list(&mut out, &database.database_url, &filter, limit)?;
            Ok(true)
        }
        DlqCommand::Show {
            database,
            schema,
            registry,
            writers,
            place,
        } => {
            let schema_registry = registry.settings()?;
            let viewed = dlq::Viewed {
                place,
                schema_ids: schema.known(schema_registry.as_ref()),
                writer_schemas: writers.writer_schemas,
                schema_registry,
            };
            dlq::show(&mut out, &database.database_url, &viewed)
        }
        DlqCommand::Redrive {
            kafka,
            database,
            schema,
            registry,
            writers,
            place,
            reason,
            partition,
            limit,
            dry_run,
            again,
        } => {
            let place = place.unwrap_or_default();
            let schema_registry = registry.settings()?;
            let settings = dlq::redrive::Settings {
                cluster: kafka.cluster(),
                database_url: database.database_url,
                topic: place.topic.clone().unwrap_or(kafka.topic),
                filter: Filter {
                    reason,
                    partition: place.partition.or(partition),
                    ..place
                },
                limit,
                dry_run,
                again,
                schema_ids: schema.known(schema_registry.as_ref()),
                writer_schemas: writers.writer_schemas,
                schema_registry,
            };
            dlq::redrive::run(&mut out, &settings, &*stop_on_signal()?)
        }
    }
}

/// Exchange rates.
fn rates(command: RatesCommand) -> anyhow::Result<()> {
    match command {
        RatesCommand::Import {
            database,
            file,
            replace,
            format,
        } => rates::command::import(&database.database_url, &file, replace, format),
        RatesCommand::Show {
            database,
            currency,
            on,
            format,
        } => rates::command::show(&database.database_url, currency, on, format),
    }
}

/// The databases that know what was imported.
fn databases(database: DatabaseArgs, shards: &ShardsArgs) -> anyhow::Result<Urls> {
    Ok(Urls {
        home: database.database_url,
        shards: shards.read()?,
    })
}

/// What is asked of what was imported.
fn imported(command: ImportCommand) -> anyhow::Result<()> {
    match command {
        ImportCommand::List {
            database,
            shards,
            account,
            limit,
            format,
        } => {
            let databases = databases(database, &shards)?;
            let account = account.as_deref();
            import::imported::list(&databases, account, limit, format)
        }
        ImportCommand::Show {
            database,
            shards,
            originals,
            hash,
            original,
            line,
        } => import::imported::show(&import::imported::Viewed {
            hash,
            original,
            line,
            originals: originals.originals,
            databases: databases(database, &shards)?,
        }),
        ImportCommand::Undo {
            kafka,
            framing,
            database,
            shards,
            hash,
            dry_run,
            wait,
        } => {
            let settings = import::imported::undo::Settings {
                hash,
                cluster: kafka.cluster(),
                schema_ids: ids_to_send(&framing, &kafka.topic, dry_run)?,
                topic: kafka.topic,
                databases: databases(database, &shards)?,
                dry_run,
                wait,
            };
            import::imported::undo::run(&mut terminal::out(), &settings, stop_on_signal)
        }
    }
}

fn alerts(command: AlertsCommand) -> anyhow::Result<()> {
    let out = &mut terminal::out();
    match command {
        AlertsCommand::Check { rules } => alerts::command::check(out, &rules),
        AlertsCommand::List {
            database,
            all,
            limit,
        } => alerts::command::list(out, &database.database_url, all, limit),
        AlertsCommand::Test {
            database,
            restating,
            rules,
            since,
            until,
        } => {
            let days = restating.provisional_days;
            alerts::command::test(out, &database.database_url, &rules, days, since, until)
        }
    }
}

fn export(database_url: &str, what: ExportWhat) -> anyhow::Result<()> {
    let (to, what) = match what {
        ExportWhat::Events { to } => (to, export::What::Events),
        ExportWhat::Metrics { to, increment } => (to, export::What::Metrics(increment)),
    };
    let (since, until) = (to.since, to.until);
    if since >= until {
        anyhow::bail!("--since is not before --until");
    }
    let range = Range { since, until };
    let target = export::Target {
        format: to.format,
        raw: to.raw,
        output: to.output.as_deref(),
    };
    let rows = export::run(database_url, what, range, target)?;
    log::info!("{rows} rows");
    Ok(())
}

fn keys(database_url: &str, migration: MigrationArgs, command: KeysCommand) -> anyhow::Result<()> {
    let out = &mut terminal::out();
    match command {
        KeysCommand::Create {
            name,
            scopes,
            expires_in,
        } => {
            if !migration.no_migrate {
                store::migrate(database_url)?;
            }
            keys::create(out, database_url, &name, &scopes, expires_in)
        }
        KeysCommand::List => keys::list(out, database_url),
        KeysCommand::Rotate { id, grace } => keys::rotate(out, database_url, &id, grace),
        KeysCommand::Revoke { id } => keys::revoke(database_url, &id),
    }
}

/// Makes the projections anew, with a progress bar.
fn rebuild(database_url: &str) -> anyhow::Result<()> {
    let bar = indicatif::ProgressBar::no_length();
    bar.set_style(indicatif::ProgressStyle::with_template(
        "{bar:40} {pos}/{len} events ({per_sec}, {eta} left)",
    )?);
    let rebuilt = store::keep::rebuild::rebuild(database_url, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    writeln!(
        terminal::out(),
        "rebuilt from {} events; {} campaigns had been wrong; processors waited {:.0} ms for the swap",
        rebuilt.events,
        rebuilt.corrected_campaigns,
        rebuilt.held_up.as_secs_f64() * 1e3
    )?;
    Ok(())
}

/// Makes the projections of an instant, and prints what they rest on.
fn rebuild_as_of(
    database_url: &str,
    instant: DateTime<Utc>,
    into: Option<String>,
) -> anyhow::Result<()> {
    let schema = into.unwrap_or_else(|| rebuild_as_of::default_schema(instant));
    let made = rebuild_as_of::rebuild_as_of(database_url, instant, &schema)?;
    let mut out = terminal::out();
    writeln!(
        out,
        "as of {}: {} events of {} campaigns in schema {schema}",
        rfc3339_exact(instant),
        made.events,
        made.campaigns
    )?;
    for p in &made.positions {
        let (topic, partition) = (&p.topic, p.partition);
        writeln!(out, "  {topic}:{partition} before offset {}", p.next_offset)?;
    }
    writeln!(out, "DROP SCHEMA \"{schema}\" CASCADE removes it")?;
    Ok(())
}

/// Checks the store, and prints what agreed or the first difference. `false` if there is one.
fn verify(database_url: &str) -> anyhow::Result<bool> {
    let mut connection = store::open(database_url, Limits::MAINTENANCE)?;
    let checking = |name: &str| log::debug!("checking: {name}");
    let verified = store::keep::verify::verify(&mut connection, &checking).map_err(|error| {
        let needs = if error.is_of_no_kind() {
            "; verify needs room for temporary files on PostgreSQL's disk, about as much as the events take"
        } else {
            ""
        };
        anyhow::anyhow!("{error}{needs}")
    })?;
    match verified {
        Ok(verified) => {
            writeln!(terminal::out(), "{verified}")?;
            Ok(true)
        }
        Err(difference) => {
            writeln!(terminal::out(), "{difference}")?;
            Ok(false)
        }
    }
}
