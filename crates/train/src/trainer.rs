//! Runs: stages of training over epochs, with logs, checkpoints and an exact resume.

use crate::activation::{Function, Unit};
use crate::batch::Batch;
use crate::calibration::seen;
use crate::checkpoint::{self, Position, Sums};
use crate::config::{Degrees, Order, Run, Stage, Target};
use crate::error::{Error, Result, need};
use crate::inverse::VarianceLoss;
use crate::memory::Kept;
use crate::mode::Mode;
use crate::model::Model;
use crate::optimizer::Optimizer;
use crate::score::Score;
use crate::sources::{Source, Sources};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The checkpoint of the best pass in a run's folder.
const BEST: &str = "best.safetensors";

/// How [`Trainer::run`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum End {
    /// After the last stage.
    Finished,
    /// Where `report` asked for it; a run that is started again in the same folder goes on as if it had not been stopped.
    Stopped,
}

/// What a run reports while it works.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A step of training.
    Step {
        /// The stage's name.
        stage: &'a str,
        /// Share of the whole run that is done.
        done: f64,
        /// Mean loss of the pass so far.
        loss: f64,
        /// Share of training pictures classified rightly in the pass so far.
        accuracy: f64,
        /// Seconds until the end, from the speed of this run so far.
        remaining: f64,
    },
    /// A pass has ended.
    Epoch {
        /// The stage's name.
        stage: &'a str,
        /// The pass within the stage, from 1.
        epoch: usize,
        /// Mean loss.
        loss: f64,
        /// On the training pictures.
        training: f64,
        /// On the held-out pictures.
        held_out: &'a Score,
        /// Of all activations.
        extremes: (f32, f32),
    },
    /// Something else that the user should know.
    Note(String),
}

/// Who is told; a run is saved and stops where it breaks.
pub type Report<'a> = &'a mut dyn FnMut(&Event<'_>) -> ControlFlow<()>;

/// A run.
pub struct Trainer<'a, S: Source = Sources> {
    pub(crate) config: &'a Run<S::Network, S::Data>,
    /// The configuration, as TOML.
    pub(crate) text: String,
    pub(crate) folder: Option<PathBuf>,
    /// The checkpoint of the stage's best pass, of a run without a folder.
    best: Vec<u8>,
    /// The network in training.
    pub model: Model,
    teacher: Option<Model>,
    sources: S,
    optimizer: Optimizer,
    position: Position,
    /// Time between checkpoints within a pass.
    pub every: Duration,
    /// What passes keep, where a stage does not say that they compute values again: the same results in any case.
    pub kept: Kept,
    steps_of_this_process: u64,
    began: Instant,
}

impl<'a, S: Source> Trainer<'a, S> {
    /// A run that begins, or goes on from the checkpoint in `folder`. Without one nothing is written.
    ///
    /// # Errors
    /// [`Error::Classes`], [`Error::Shape`] where network and data differ; [`Error::Configuration`] for a folder with another
    /// configuration's checkpoint; [`Error::File`].
    pub fn new(
        config: &'a Run<S::Network, S::Data>,
        model: Model,
        teacher: Option<Model>,
        sources: S,
        folder: Option<&Path>,
    ) -> Result<Self> {
        sources.fit(&model)?;
        if let Some(t) = &teacher {
            sources.fit(t)?;
        }
        let text = config.to_toml()?;
        let mut trainer = Self {
            config,
            text,
            folder: folder.map(PathBuf::from),
            best: Vec::new(),
            model,
            teacher,
            sources,
            optimizer: Optimizer::default(),
            position: Position::default(),
            every: Duration::from_secs(60),
            kept: Kept::Everything,
            steps_of_this_process: 0,
            began: Instant::now(),
        };
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
            let path = folder.join(checkpoint::CHECKPOINT);
            if path.exists() {
                trainer.position = trainer.restore(&path)?;
            } else {
                let path = folder.join(checkpoint::CONFIGURATION);
                checkpoint::write_whole(&path, trainer.text.as_bytes())?;
            }
        }
        trainer.unscale();
        Ok(trainer)
    }

    /// From the first stage on that a program divides or a loss narrows divisors in, powers are taken as they are.
    fn unscale(&mut self) {
        let stages = self.config.stages.iter().take(self.position.stage + 1);
        let narrows = |s: &Stage| s.divisions.is_some() || s.division_loss != VarianceLoss::None;
        if stages.into_iter().any(narrows) {
            self.model.unscale_powers();
        }
    }

    /// Where the run stands.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The data of the run.
    #[must_use]
    pub fn sources(&self) -> &S {
        &self.sources
    }

    fn batches_of(&self, stage: &Stage) -> usize {
        (stage.epochs * self.sources.batches_a_pass(self.config.batch) as f64).round() as usize
    }

    /// Trains to the end of the last stage. `report` is called after every step; where it breaks, the run is saved and stops.
    ///
    /// # Errors
    /// [`Error::Diverged`] when every step of a pass fails; what files and data bring.
    pub fn run(&mut self, report: Report<'_>) -> Result<End> {
        loop {
            if let Some(end) = self.run_stage(report)? {
                return Ok(end);
            }
        }
    }

    /// As [`Trainer::run`], to the end of one stage; how the run ended where no stage is left, or where `report` broke.
    ///
    /// # Errors
    /// Those of [`Trainer::run`].
    pub fn run_stage(&mut self, report: Report<'_>) -> Result<Option<End>> {
        if let Some(stage) = self.config.stages.get(self.position.stage) {
            if self.steps_of_this_process == 0 {
                self.began = Instant::now();
            }
            if self.stage(stage, report)?.is_break() {
                // between a stage's beginning and its first step nothing is saved: the beginning is repeated
                if self.position.epoch > 0 || self.position.batch > 0 {
                    self.save()?;
                }
                return Ok(Some(End::Stopped));
            }
            self.position = Position {
                stage: self.position.stage + 1,
                passes: self.position.passes,
                log: std::mem::take(&mut self.position.log),
                ranges: std::mem::take(&mut self.position.ranges),
                ..Position::default()
            };
            self.save()?;
            return Ok(None);
        }
        // a kill may have come between the last checkpoint and its logs
        self.write_logs()?;
        if let Some(folder) = &self.folder {
            remove(&folder.join(BEST))?;
        }
        Ok(Some(End::Finished))
    }

    fn save(&self) -> Result<()> {
        if let Some(folder) = &self.folder {
            let path = folder.join(checkpoint::CHECKPOINT);
            checkpoint::write_whole(&path, &self.to_checkpoint()?)?;
        }
        self.write_logs()
    }

    fn to_checkpoint(&self) -> Result<Vec<u8>> {
        let (model, optimizer) = (&self.model, &self.optimizer);
        checkpoint::to_bytes(model, optimizer, &self.position, &self.text)
    }

    fn restore(&mut self, path: &Path) -> Result<Position> {
        self.restore_from(path, &checkpoint::read(path)?)
    }

    fn restore_from(&mut self, path: &Path, bytes: &[u8]) -> Result<Position> {
        let (model, optimizer) = (&mut self.model, &mut self.optimizer);
        checkpoint::from_bytes((path, bytes), model, optimizer, &self.text)
    }

    fn keep_best(&mut self) -> Result<()> {
        let bytes = self.to_checkpoint()?;
        match &self.folder {
            Some(folder) => checkpoint::write_whole(&folder.join(BEST), &bytes),
            None => {
                self.best = bytes;
                Ok(())
            }
        }
    }

    fn back_to_best(&mut self) -> Result<Position> {
        match &self.folder {
            Some(folder) => self.restore(&folder.join(BEST)),
            None => {
                let bytes = std::mem::take(&mut self.best);
                self.restore_from(Path::new(BEST), &bytes)
            }
        }
    }

    fn write_logs(&self) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let table = |name: &str, head: &str, rows: &[String]| {
            let text = format!("{head}\n{}\n", rows.join("\n"));
            checkpoint::write_whole(&folder.join(name), text.trim_end().as_bytes())
        };
        let head = "stage,epoch,steps,skipped,loss,range_loss,training_accuracy,held_out_accuracy,held_out_outside,low,high,held_out_loss";
        table("log.csv", head, &self.position.log)?;
        table(
            "ranges.csv",
            "stage,epoch,activation,low,high,quantile_low,quantile_high,domain_low,domain_high,outside",
            &self.position.ranges,
        )
    }

    fn stage(&mut self, stage: &'a Stage, report: Report<'_>) -> Result<ControlFlow<()>> {
        let per_pass = self.sources.batches_a_pass(self.config.batch);
        let total = self.batches_of(stage);
        self.model.range_loss = stage.range_loss;
        self.model.variance_loss = stage.variance_loss;
        self.model.division_loss = stage.division_loss;
        self.model.recompute = stage.recompute || self.kept == Kept::Boundaries;
        self.unscale();
        if self.position.epoch == 0
            && self.position.batch == 0
            && self.begin(stage, report)?.is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        while self.position.epoch * per_pass < total {
            if let (Some(patience), Some((_, at))) = (stage.patience, self.position.best)
                && self.position.epoch >= at + patience
            {
                let text = format!(
                    "stage {}: no better in {patience} passes, back to the best",
                    stage.name
                );
                if report(&Event::Note(text)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                break;
            }
            let until = per_pass.min(total - self.position.epoch * per_pass);
            if self.pass(stage, until, total, report)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let (better, stop) = self.end_of_pass(stage, report)?;
            self.position.epoch += 1;
            self.position.batch = 0;
            self.position.passes += 1;
            self.position.sums = Sums::default();
            self.model.clear_ranges();
            if stage.patience.is_some() && better {
                // before the checkpoint that counts on it
                self.keep_best()?;
            }
            self.save()?;
            if stop.is_break() {
                return Ok(stop);
            }
        }
        if stage.patience.is_some() && self.position.best.is_some() {
            self.back_to_best()?;
        }
        self.advance(stage, 1.0)?;
        if stage.reestimate {
            self.reestimate()?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Measures ranges, substitutes, sets targets and guards.
    fn begin(&mut self, stage: &Stage, report: Report<'_>) -> Result<ControlFlow<()>> {
        let mut go_on = ControlFlow::Continue(());
        let changes =
            stage.substitution.is_some() || stage.roots.is_some() || stage.divisions.is_some();
        if changes {
            self.log_score(&stage.name, "before")?;
        }
        self.optimizer = Optimizer::default();
        let units = self.model.units().count();
        if let Some(how) = &stage.substitution {
            if let Degrees::Each(d) = &how.degree {
                let remedy = format!(
                    "the network has {units} activations: give one degree for each, or one for all"
                );
                need(
                    d.len() == units,
                    "degree",
                    format!("{} degrees", d.len()),
                    remedy,
                )?;
            }
            self.calibrate(how.pictures)?;
            if !matches!(how.order, Order::OneByOne { .. }) {
                self.model.substitute(0..units, how)?;
            }
            go_on = report(&Event::Note(format!(
                "stage {}: calibrated on {} inputs",
                stage.name, how.pictures
            )));
        }
        for (how, root) in [(stage.roots, true), (stage.divisions, false)] {
            let Some(how) = how else { continue };
            self.calibrate(how.pictures)?;
            let mut levels = Vec::new();
            for u in self.model.inverses_mut() {
                if u.function.has_root() == root {
                    u.substitute(&how)?;
                    levels.extend(u.program.as_ref().map(approx::Program::depth));
                }
            }
            let (setting, what) = match root {
                true => ("roots", "inverse roots"),
                false => ("divisions", "divisions"),
            };
            let remedy = "the network has none that a program could compute: softmax's are none, Power-Softmax's are";
            need(!levels.is_empty(), setting, &stage.name, remedy)?;
            let name = &stage.name;
            go_on = report(&Event::Note(format!(
                "stage {name}: programs of {levels:?} levels for {what}"
            )));
        }
        for u in self.model.units_mut() {
            u.guard = stage.guard;
            set_target(u, stage.target);
        }
        self.model.forget_histograms();
        self.model.clear_ranges();
        self.train_coefficients(stage);
        if changes {
            self.log_score(&stage.name, "substituted")?;
        }
        Ok(go_on)
    }

    fn train_coefficients(&mut self, stage: &Stage) {
        for p in &mut self.model.parameters {
            if p.kind == crate::parameter::Kind::Coefficient {
                p.trainable = stage.coefficient_rate > 0.0;
            }
        }
    }

    fn calibrate(&mut self, inputs: usize) -> Result<()> {
        let batches = self.sources.to_calibrate(self.config.batch, inputs)?;
        self.model.calibrate(batches)
    }

    /// A row of the log for a network that a stage is about to change or has changed.
    fn log_score(&mut self, stage: &str, when: &str) -> Result<()> {
        let s = self.score()?;
        self.position.log.push(format!(
            "{stage},{when},0,0,,,,{:.4},{},,,{:.5}",
            s.accuracy(),
            s.outside,
            s.loss
        ));
        Ok(())
    }

    /// What changes with the stage's progress.
    fn advance(&mut self, stage: &Stage, progress: f64) -> Result<()> {
        let Some(how) = &stage.substitution else {
            return Ok(());
        };
        match how.order {
            Order::All => {}
            Order::Blend { share } => {
                // a share of 0 gives 1, too
                let ratio = (progress / share).min(1.0) as f32;
                let function = match ratio < 1.0 {
                    true => Function::Blend { ratio },
                    false => Function::Polynomial,
                };
                let blended = |u: &&mut Unit| u.coefficients.is_some() && u.original.is_some();
                for u in self.model.units_mut().filter(blended) {
                    u.function = function;
                }
            }
            Order::OneByOne { share } => {
                let units = self.model.units().count();
                let due = match share > 0.0 {
                    true => units.min(((progress / share) * units as f64) as usize + 1),
                    false => units,
                };
                let first = self.position.substituted;
                if first < due {
                    let seen = self.model.seen();
                    self.calibrate(how.pictures)?;
                    self.model.substitute(first..due, how)?;
                    for u in self.model.units_mut().take(due).skip(first) {
                        set_target(u, stage.target);
                    }
                    self.position.substituted = due;
                    self.model.forget_histograms();
                    self.model.set_seen(&seen);
                    self.train_coefficients(stage);
                    // as in P1, the optimiser forgets what it learned with another network
                    self.optimizer = Optimizer::default();
                }
            }
        }
        Ok(())
    }

    fn pass(
        &mut self,
        stage: &'a Stage,
        until: usize,
        total: usize,
        report: Report<'_>,
    ) -> Result<ControlFlow<()>> {
        let per_pass = self.sources.batches_a_pass(self.config.batch);
        let before = self.position.epoch * per_pass;
        let at = |batch: usize| (before + batch) as f64 / total as f64;
        // the mixture changes between passes, so that a pass is one deterministic sequence
        let second = match at(0) >= stage.second_from {
            true => stage.second_share,
            false => 0.0,
        };
        let mut saved = Instant::now();
        let first = self.position.batch;
        let batches = self
            .sources
            .pass(self.config, self.position.passes, first, second)?;
        for batch in batches.take(until - first) {
            let batch = batch?;
            let progress = at(self.position.batch);
            self.advance(stage, progress)?;
            self.step(stage, batch, progress)?;
            self.position.batch += 1;
            self.steps_of_this_process += 1;
            let sums = self.position.sums;
            if sums.steps >= 20 && sums.skipped == sums.steps {
                return Err(Error::Diverged {
                    what: format!("the loss of stage {}", stage.name),
                    epoch: self.position.epoch,
                    step: self.position.batch,
                });
            }
            let (done, remaining) = self.progress();
            let go_on = report(&Event::Step {
                stage: &stage.name,
                done,
                loss: sums.loss / sums.pictures.max(1) as f64,
                accuracy: sums.right as f64 / sums.pictures.max(1) as f64,
                remaining,
            });
            if go_on.is_break() {
                return Ok(go_on);
            }
            if saved.elapsed() >= self.every {
                self.save()?;
                saved = Instant::now();
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn progress(&self) -> (f64, f64) {
        let per_pass = self.sources.batches_a_pass(self.config.batch);
        let all: usize = self.config.stages.iter().map(|s| self.batches_of(s)).sum();
        let before = self.config.stages[..self.position.stage].iter();
        let before: usize = before.map(|s| self.batches_of(s)).sum();
        let done = before + self.position.epoch * per_pass + self.position.batch;
        let a_step = self.began.elapsed().as_secs_f64() / self.steps_of_this_process.max(1) as f64;
        (
            done as f64 / all.max(1) as f64,
            a_step * all.saturating_sub(done) as f64,
        )
    }

    fn step(&mut self, stage: &Stage, batch: Batch, progress: f64) -> Result<()> {
        let n = batch.counted().max(1);
        let quantiles: Vec<_> = self.model.units().map(|u| u.quantiles).collect();
        let norms = self.model.norms();
        let statistics: Vec<_> = norms
            .map(|(_, b)| (b.mean.clone(), b.variance.clone()))
            .collect();
        self.model.clear_gradients();
        self.model.frozen = stage.frozen_from.is_some_and(|from| progress >= from);
        let (mut loss, mut penalty, mut right) = (0.0, 0.0, 0);
        for part in batch.parts(stage.parts, self.model.positions()) {
            let share = part.counted() as f32 / n as f32;
            let taught = self
                .teacher
                .as_mut()
                .map(|t| t.run(part.inputs(), Mode::Evaluate).to_vec());
            let outputs = self.model.run(part.inputs(), Mode::Train);
            let mut outcome = stage.loss.of(outputs, &part.wanted, taught.as_deref());
            loss += outcome.loss * f64::from(share);
            right += outcome.right;
            if !loss.is_finite() {
                break;
            }
            if stage.parts > 1 {
                outcome.gradient.iter_mut().for_each(|g| *g *= share);
            }
            self.model.share = share;
            penalty += self.model.backward(outcome.gradient);
        }
        let sums = &mut self.position.sums;
        sums.steps += 1;
        let mut stepped = None;
        if loss.is_finite() && penalty.is_finite() {
            let rate = stage.rate.at(progress);
            stepped = self.optimizer.step(
                &mut self.model.parameters,
                stage.rule,
                rate,
                rate * stage.coefficient_rate,
                stage.clipping,
            );
            if stepped.is_some() {
                sums.loss += loss * n as f64;
                sums.range_loss += penalty;
                sums.right += right as u64;
                sums.pictures += n as u64;
            }
        }
        if stepped.is_none() {
            sums.skipped += 1;
            // a batch that overflows must not spoil the running statistics
            for ((_, norm), old) in self.model.norms_mut().zip(statistics) {
                (norm.mean, norm.variance) = old;
            }
            for (u, q) in self.model.units_mut().zip(quantiles) {
                u.quantiles = q;
            }
            return Ok(());
        }
        if let Target::Quantiles { margin } = stage.target {
            for u in self.model.units_mut() {
                if let Some((low, high)) = u.quantiles {
                    let by = margin * (high - low);
                    u.target = (low - by, high + by);
                }
            }
        }
        Ok(())
    }

    /// Logs a pass; whether the held-out accuracy is the stage's best. Passes that end before all activations are polynomials are no
    /// candidates: their accuracy is another network's.
    fn end_of_pass(
        &mut self,
        stage: &Stage,
        report: Report<'_>,
    ) -> Result<(bool, ControlFlow<()>)> {
        let extremes = self
            .model
            .units()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), u| {
                (a.min(u.seen.low), b.max(u.seen.high))
            });
        let epoch = self.position.epoch + 1;
        let number = |v: Option<f32>| v.map_or_else(String::new, |v| format!("{v:.4}"));
        for u in self.model.units() {
            let row = format!(
                "{},{epoch},{},{:.4},{:.4},{},{},{:.4},{:.4},{}",
                stage.name,
                u.name,
                u.seen.low,
                u.seen.high,
                number(u.quantiles.map(|q| q.0)),
                number(u.quantiles.map(|q| q.1)),
                u.domain.0,
                u.domain.1,
                u.seen.outside
            );
            self.position.ranges.push(row);
        }
        for u in self.model.inverses() {
            self.position.ranges.push(format!(
                "{},{epoch},{},{:.6},{:.6},,,{:.6},{:.6},{}",
                stage.name, u.name, u.seen.low, u.seen.high, u.domain.0, u.domain.1, u.seen.outside
            ));
        }
        let score = self.score()?;
        let sums = self.position.sums;
        let mean = |v: f64, n: u64| v / n.max(1) as f64;
        let (loss, training) = (
            mean(sums.loss, sums.pictures),
            mean(sums.right as f64, sums.pictures),
        );
        self.position.log.push(format!(
            "{},{epoch},{},{},{loss:.5},{:.5},{training:.4},{:.4},{},{:.3},{:.3},{:.5}",
            stage.name,
            sums.steps,
            sums.skipped,
            mean(sums.range_loss, sums.steps),
            score.accuracy(),
            score.outside,
            extremes.0,
            extremes.1,
            score.loss
        ));
        let go_on = report(&Event::Epoch {
            stage: &stage.name,
            epoch,
            loss,
            training,
            held_out: &score,
            extremes,
        });
        let complete = match stage.substitution.as_ref().map(|s| s.order) {
            Some(Order::OneByOne { .. }) => self.position.substituted == self.model.units().count(),
            _ => self
                .model
                .units()
                .all(|u| !matches!(u.function, Function::Blend { .. })),
        };
        let merit = self.sources.merit(&score);
        let better = complete && self.position.best.is_none_or(|(b, _)| merit > b);
        if better {
            self.position.best = Some((merit, epoch));
        }
        Ok((better, go_on))
    }

    /// How the network does on what is held out: running statistics, no guard, nothing learned.
    ///
    /// # Errors
    /// What the data bring.
    pub fn score(&mut self) -> Result<Score> {
        let batches = self.sources.held_out(self.config.batch)?;
        Score::of(&mut self.model, batches)
    }

    /// Measures the normalisations' statistics on the second training data (the first where there are none): equal weights for all
    /// batches, nothing else changes.
    fn reestimate(&mut self) -> Result<()> {
        let momentum = self.model.momentum;
        self.model.frozen = false;
        let mut whole = 0;
        let batches = self.sources.to_calibrate(self.config.batch, usize::MAX)?;
        for (k, batch) in batches.enumerate() {
            let batch = batch?;
            whole = whole.max(batch.rows());
            // a last one of few
            if batch.rows() < whole {
                continue;
            }
            self.model.momentum = 1.0 / (k + 1) as f32;
            self.model.run(batch.inputs(), Mode::Train);
        }
        self.model.momentum = momentum;
        self.model.clear_ranges();
        Ok(())
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file(path)(e)),
        _ => Ok(()),
    }
}

fn set_target(u: &mut Unit, target: Target) {
    u.target = match target {
        Target::Fixed { low, high } => (low, high),
        Target::Domain if u.coefficients.is_some() => u.domain,
        Target::Seen => seen(u).unwrap_or(u.target),
        _ => u.target,
    };
}
