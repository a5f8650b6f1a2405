//! Where a training tells what happens to it. [`crate::track`] writes it to files; tests collect it.

/// Receives the numbers of one training (one model of one fold).
///
/// No method returns an error: a full disk under the log must never stop a training. A sink that
/// can no longer write says so once, as a warning, and drops what follows.
pub trait Sink: Send {
    /// `value` of the series `name` (such as `train/loss`) after `step` optimizer steps. A value
    /// that is not finite may be kept or left out, but never stops the sink.
    fn scalar(&mut self, name: &str, step: u64, value: f64);

    /// The settings of this training, by dotted path of the configuration. At most once, first.
    fn hparams(&mut self, pairs: &[(String, String)]);

    /// Hands over everything received so far; called at the end of an epoch and of the training.
    fn flush(&mut self);
}

/// Tells several sinks the same.
#[derive(Default)]
pub struct Tee(pub Vec<Box<dyn Sink>>);

impl Sink for Tee {
    fn scalar(&mut self, name: &str, step: u64, value: f64) {
        self.0.iter_mut().for_each(|sink| sink.scalar(name, step, value));
    }

    fn hparams(&mut self, pairs: &[(String, String)]) {
        self.0.iter_mut().for_each(|sink| sink.hparams(pairs));
    }

    fn flush(&mut self) {
        self.0.iter_mut().for_each(|sink| sink.flush());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Told(&'static str, Arc<Mutex<Vec<String>>>);

    impl Told {
        fn note(&self, what: String) {
            self.1.lock().expect("no panic while held").push(format!("{} {what}", self.0));
        }
    }

    impl Sink for Told {
        fn scalar(&mut self, name: &str, step: u64, value: f64) {
            self.note(format!("{name}[{step}] = {value}"));
        }
        fn hparams(&mut self, pairs: &[(String, String)]) {
            self.note(format!("{pairs:?}"));
        }
        fn flush(&mut self) {
            self.note("flush".into());
        }
    }

    #[test]
    fn a_tee_tells_all() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sinks: Vec<Box<dyn Sink>> =
            vec![Box::new(Told("a", told.clone())), Box::new(Told("b", told.clone()))];
        let mut tee = Tee(sinks);
        tee.hparams(&[]);
        tee.scalar("loss", 3, 0.5);
        tee.flush();
        let told = told.lock().expect("no panic while held");
        assert_eq!(
            *told,
            ["a []", "b []", "a loss[3] = 0.5", "b loss[3] = 0.5", "a flush", "b flush"]
        );
    }
}
