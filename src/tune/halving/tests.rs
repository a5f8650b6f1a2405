use super::*;
use crate::seeds::Seeds;
use crate::tune::Params;
use crate::tune::parzen::uniform;
use crate::tune::study::{Fit, Record};

#[test]
fn rungs() {
    for (epochs_max, halvings, reduction, expected) in [
        (27, 2, 3, &[3, 9, 27][..]),
        (60, 2, 3, &[6, 20, 60]),
        (60, 1, 4, &[15, 60]),
        (4, 2, 3, &[1, 4]),
        (1, 2, 3, &[1]),
        (27, 0, 3, &[27]),
        (100_000, 10, 16, &[1, 24, 390, 6250, 100_000]),
    ] {
        let found = Halving::new(epochs_max, halvings, reduction).rungs;
        assert_eq!(found, expected, "{epochs_max} {halvings} {reduction}");
    }
}

/// A study with one worker, whose trials have the losses of a function of (trial, rung).
struct Play<'a> {
    halving: Halving,
    study: Study,
    loss: &'a dyn Fn(u32, usize) -> f64,
}

impl<'a> Play<'a> {
    fn new(halving: Halving, loss: &'a dyn Fn(u32, usize) -> f64) -> Self {
        Play { halving, study: Study::default(), loss }
    }

    fn train(&mut self, trial: u32, rung: usize) {
        let params = (rung == 0).then(Params::new);
        let epochs = u64::from(self.halving.rungs[rung]);
        let loss = (self.loss)(trial, rung);
        let fit = Fit { network: "mlp".into(), fold: 0, epochs, loss };
        let worker = 0;
        for record in [
            Record::Begin { trial, rung, worker, params },
            Record::Report { trial, rung, worker, seconds: 1.0, fits: vec![fit] },
        ] {
            self.study.apply(record).expect("in order");
        }
    }

    /// All promotions that there are.
    fn promote(&mut self) -> Vec<(u32, usize)> {
        let mut found = Vec::new();
        while let Some((trial, rung)) = self.halving.promoted(&self.study) {
            self.train(trial, rung);
            found.push((trial, rung));
        }
        found
    }
}

#[test]
fn the_best_third_goes_on() {
    let losses = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.9, 0.1];
    let loss = |trial: u32, rung: usize| losses[trial as usize] - 0.01 * rung as f64;
    let mut play = Play::new(Halving::new(27, 2, 3), &loss);
    let mut promoted = Vec::new();
    for trial in 0..9 {
        play.train(trial, 0);
        promoted.push(play.promote());
    }
    // The third trial makes one in three: the best so far. The sixth makes two, and the best two
    // are new; the cap is 6 / 2. Of three on the second rung the best goes to the end.
    let none: &[(u32, usize)] = &[];
    let expected =
        [none, none, &[(1, 1)], &[(3, 1)], none, &[(5, 1), (5, 2)], none, none, &[(8, 1), (8, 2)]];
    assert_eq!(promoted, expected);
}

/// At worst, with every trial better than all before it, a search of 64 trials spends this share
/// of the epochs of a full one: 1/9 + 1/2 * 2/9 + 1/4 * 2/3 = 0.389.
#[test]
fn what_it_spends_is_bounded() {
    let seeds = Seeds::new(1);
    let mut worst: f64 = 0.0;
    for case in 0..40u64 {
        let falls = case as f64 / 10.0;
        let noise = |trial: u32, rung: usize| {
            uniform(&mut seeds.stream("noise", case * 1000 + u64::from(trial) * 3 + rung as u64))
        };
        let loss = |trial: u32, rung: usize| {
            noise(trial, 2) + 0.3 * noise(trial, rung) - falls * f64::from(trial) / 64.0
        };
        let mut play = Play::new(Halving::new(27, 2, 3), &loss);
        for trial in 0..64 {
            play.train(trial, 0);
            play.promote();
        }
        let share = play.study.epochs() as f64 / (64.0 * 27.0);
        assert!((0.25..0.39).contains(&share), "losses that fall by {falls}: {share}");
        worst = worst.max(share);
    }
    assert!(worst > 0.38, "the cap was never reached: {worst}");
}

#[test]
fn a_failed_trial_is_not_promoted() {
    let loss = |trial: u32, _: usize| f64::from(trial);
    let mut play = Play::new(Halving::new(27, 2, 3), &loss);
    (0..3).for_each(|trial| play.train(trial, 0));
    let (trial, rung, worker) = (0, 1, 0);
    play.study.apply(Record::Begin { trial, rung, worker, params: None }).expect("in order");
    play.study.apply(Record::Fail { trial, rung, worker, reason: "x".into() }).expect("in order");
    assert_eq!(play.promote(), []);
    (3..6).for_each(|trial| play.train(trial, 0));
    assert_eq!(play.promote(), [(1, 1)]);
}
