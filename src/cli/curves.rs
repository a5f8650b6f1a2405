//! Risk curves of the test part, kept until they are judged.

use super::predictions::{Forecast, View};
use crate::eval::{CurveMetrics, Curves, curve_metrics};
use crate::panel::{FollowUp, Part, Snapshots, open_tests};

/// Windows that are encoded and predicted at a time, as in `fold`. A customer in two pieces is
/// read twice, and no harm done.
const PIECE_WINDOWS: usize = 1 << 16;

/// The curves of one model, and what happened.
#[derive(Debug, Clone, Default)]
pub struct CurveScores {
    follow_ups: Vec<FollowUp>,
    /// `[rows, K]`.
    risks: Vec<f64>,
}

impl CurveScores {
    /// Keeps those of the test part.
    pub fn add(&mut self, view: View, chosen: &[u32], forecast: &Forecast) {
        let months = forecast.months();
        if months < 2 {
            return;
        }
        for (&snapshot, curve) in chosen.iter().zip(forecast.curves.chunks_exact(months)) {
            if view.fold.parts[snapshot as usize] == Part::Test {
                self.follow_ups.push(view.snapshots.follow_up(snapshot as usize));
                self.risks.extend(curve);
            }
        }
    }

    /// Keeps the windows behind the test part that were seen in part.
    pub fn add_open(&mut self, view: View, forecast: &dyn Fn(&Snapshots) -> Forecast) {
        let open = open_tests(view.snapshots, view.fold);
        for piece in open.chunks(PIECE_WINDOWS) {
            let places = piece.iter().map(|o| (o.customer as usize, usize::from(o.month)));
            let forecast = forecast(&Snapshots::unlabelled(places));
            self.follow_ups.extend(piece.iter().map(|o| o.follow_up));
            self.risks.extend(&forecast.curves);
        }
    }

    /// Over all folds together; None without curves.
    pub fn metrics<'a>(folds: impl Iterator<Item = &'a CurveScores>) -> Option<CurveMetrics> {
        let mut all = CurveScores::default();
        for fold in folds {
            all.follow_ups.extend(&fold.follow_ups);
            all.risks.extend(&fold.risks);
        }
        let months = all.risks.len().checked_div(all.follow_ups.len())?;
        curve_metrics(&Curves { follow_ups: &all.follow_ups, risks: &all.risks, months })
    }
}
