// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::{RecurrentBackward, RecurrentForward, Sequences, Slopes, Weights};
use super::*;
use crate::op::{Array, Cell, Direction, Op, Operand, Presence, Recurrent, Slope, Upstream};
use crate::scalars::Scalars;
use crate::{Precision, Shape};

/// A recurrent layer with operands of noise.
struct Case {
    recurrent: Recurrent,
    samples: usize,
    steps: usize,
    units: usize,
    state: usize,
    lengths: Vec<i32>,
}

impl Case {
    fn sums(&self) -> usize {
        self.recurrent.cell.gates() * self.units
    }

    fn saved(&self) -> usize {
        self.recurrent.cell.saved() * self.units
    }

    fn sequences(&self) -> Sequences<'_> {
        Sequences {
            cell: self.recurrent.cell,
            direction: self.recurrent.direction,
            samples: self.samples,
            steps: self.steps,
            units: self.units,
            state: self.state,
            lengths: self.recurrent.lengths.is_given().then_some(&self.lengths[..]),
        }
    }

    fn shape(&self, operand: Operand) -> Shape {
        let Case { samples, steps, units, state, .. } = *self;
        match operand {
            Operand::Projected => [samples, steps, self.sums()].into(),
            Operand::Weight => [self.sums(), state].into(),
            Operand::Bias => [self.sums()].into(),
            Operand::Projection => [state, units].into(),
            Operand::Hidden | Operand::HiddenGradient => [samples, state].into(),
            Operand::Cell | Operand::CellGradient => [samples, units].into(),
            Operand::Lengths => [samples].into(),
            Operand::Output | Operand::OutputGradient => [samples, steps, state].into(),
            Operand::Saved => [samples, steps, self.saved()].into(),
        }
    }

    /// The numbers of an operand; weights are small enough for states to keep their sizes.
    fn numbers(&self, operand: Operand) -> Vec<f32> {
        let seed = 1 + operand as u32;
        let scale = match operand {
            Operand::Weight | Operand::Projection => 1.5 / (self.state as f32).sqrt(),
            _ => 1.0,
        };
        let noise = noise(self.shape(operand).elements(), seed);
        noise.into_iter().map(|x| x * scale).collect()
    }

    fn array(&self, operand: Operand) -> Array {
        let data = match operand {
            Operand::Lengths => self.lengths.iter().map(|&length| f64::from(length)).collect(),
            _ => self.numbers(operand).into_iter().map(f64::from).collect(),
        };
        Array::new(self.shape(operand), data)
    }

    /// The results of the forward pass by its plain meaning.
    fn want(&self) -> Vec<Array> {
        let operands: Vec<Array> =
            self.recurrent.operands().into_iter().map(|operand| self.array(operand)).collect();
        let operands: Vec<&Array> = operands.iter().collect();
        Op::Recurrent(self.recurrent).eval(&operands, &Scalars::new(0))
    }

    fn given(&self, operand: Operand, presence: Presence) -> Option<Vec<f32>> {
        presence.is_given().then(|| self.numbers(operand))
    }

    fn initial(&self) -> [Option<Vec<f32>>; 2] {
        let initial = self.recurrent.initial;
        let cell = if self.recurrent.cell == Cell::Lstm { initial } else { Presence::Absent };
        [self.given(Operand::Hidden, initial), self.given(Operand::Cell, cell)]
    }

    fn forward(&self, pool: &Pool, isa: Isa, in_panels: bool) -> Vec<Vec<f32>> {
        let Case { samples, steps, units, state, .. } = *self;
        let weight = Matrix::new(self, Operand::Weight, in_panels);
        let projection = self.recurrent.projection.is_given();
        let projection = projection.then(|| Matrix::new(self, Operand::Projection, in_panels));
        let initial = self.initial();
        let nan = |count: usize| vec![f32::NAN; count];
        let (mut output, mut hidden) = (nan(samples * steps * state), nan(samples * state));
        let (mut cells, mut saved) = (nan(samples * units), nan(samples * steps * self.saved()));
        let is_lstm = self.recurrent.cell == Cell::Lstm;
        let bias = self.given(Operand::Bias, self.recurrent.bias);
        let forward = RecurrentForward {
            sequences: self.sequences(),
            factors: self.recurrent.factors,
            projected: &self.numbers(Operand::Projected),
            weight: weight.get(),
            bias: bias.as_deref(),
            projection: projection.as_ref().map(Matrix::get),
            initial: initial.each_ref().map(Option::as_deref),
            output: &mut output,
            last: [Some(&mut hidden), is_lstm.then_some(&mut cells)],
            saved: (!saved.is_empty()).then_some(&mut saved),
        };
        forward.run(pool, isa);
        let mut results = vec![output, hidden];
        if is_lstm {
            results.push(cells);
        }
        if !saved.is_empty() {
            results.push(saved);
        }
        results
    }

    fn backward(&self, pool: &Pool, isa: Isa, upstream: Upstream) -> Vec<Vec<f32>> {
        let forward = self.forward_in_f32();
        let weight = Matrix::new(self, Operand::Weight, true);
        let projection = self.recurrent.projection.is_given();
        let projection = projection.then(|| Matrix::new(self, Operand::Projection, true));
        let initial = self.initial();
        let given = [
            (Operand::OutputGradient, upstream.output),
            (Operand::HiddenGradient, upstream.hidden),
            (Operand::CellGradient, upstream.cell),
        ];
        let given = given.map(|(operand, presence)| self.given(operand, presence));
        let mut results: Vec<Vec<f32>> = self
            .shapes_of_slopes()
            .into_iter()
            .map(|shape| vec![f32::NAN; shape.elements()])
            .collect();
        let mut taken: Vec<Option<&mut [f32]>> =
            results.iter_mut().map(|result| Some(result.as_mut_slice())).collect();
        let slopes = self.recurrent.slopes();
        let mut slope = |of| taken[slopes.iter().position(|&slope| slope == of)?].take();
        let backward = RecurrentBackward {
            sequences: self.sequences(),
            factors: self.recurrent.factors,
            weight: weight.get(),
            projection: projection.as_ref().map(Matrix::get),
            initial: initial.each_ref().map(Option::as_deref),
            output: &forward[0],
            saved: if self.saved() > 0 { forward.last().unwrap() } else { &[] },
            upstream: given.each_ref().map(Option::as_deref),
            slopes: Slopes {
                projected: slope(Slope::Projected).unwrap(),
                previous: slope(Slope::Previous),
                hidden: slope(Slope::Hidden),
                cell: slope(Slope::Cell),
                recurrent: slope(Slope::Recurrent),
                output: slope(Slope::Output),
                unprojected: slope(Slope::Unprojected),
            },
        };
        backward.run(pool, isa);
        results
    }

    fn forward_in_f32(&self) -> Vec<Vec<f32>> {
        let rounded = |array: Array| array.data.into_iter().map(|x| x as f32).collect();
        self.want().into_iter().map(rounded).collect()
    }

    fn want_backward(&self, upstream: Upstream) -> Vec<Array> {
        let forward = self.forward_in_f32();
        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect();
        let operands = self.recurrent.gradient_operands(upstream).into_iter();
        let operands: Vec<Array> = operands
            .map(|operand| match operand {
                Operand::Output => Array::new(self.shape(operand), wide(&forward[0])),
                Operand::Saved => Array::new(self.shape(operand), wide(forward.last().unwrap())),
                _ => self.array(operand),
            })
            .collect();
        let operands: Vec<&Array> = operands.iter().collect();
        Op::RecurrentGrad(self.recurrent, upstream).eval(&operands, &Scalars::new(0))
    }

    fn shapes_of_slopes(&self) -> Vec<Shape> {
        let upstream =
            Upstream { output: Presence::Absent, hidden: Presence::Absent, cell: Presence::Absent };
        self.want_backward(upstream).into_iter().map(|array| array.shape).collect()
    }
}

/// A weight matrix, row-major or in panels.
struct Matrix {
    values: Vec<f32>,
    in_panels: bool,
}

impl Matrix {
    fn new(case: &Case, operand: Operand, in_panels: bool) -> Self {
        let (shape, rows) = (case.shape(operand), case.numbers(operand));
        let layout = PanelLayout { outputs: shape.rows(), inputs: shape.last() };
        let values = if in_panels { packed(layout, &rows) } else { rows };
        Matrix { values, in_panels }
    }

    fn get(&self) -> Weights<'_> {
        match self.in_panels {
            true => Weights::Panels(&self.values),
            false => Weights::Rows(&self.values),
        }
    }
}

/// Every cell in both directions, with and without everything that is optional; extents that end
/// inside vectors, tiles, panels and blocks.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for cell in [Cell::Lstm, Cell::Gru, Cell::Tanh, Cell::Relu] {
        for direction in [Direction::Forward, Direction::Reverse] {
            for (samples, steps, units) in
                [(1, 1, 1), (5, 4, 7), (13, 3, 33), (101, 2, 20), (6, 5, 64)]
            {
                for presence in [Presence::Absent, Presence::Given] {
                    let projection = match cell {
                        Cell::Lstm if units > 1 && steps != 5 => presence,
                        _ => Presence::Absent,
                    };
                    let lengths = (0..samples).map(|n| 1 + (n * 7 % steps) as i32);
                    cases.push(Case {
                        recurrent: Recurrent {
                            bias: presence,
                            initial: presence,
                            lengths: presence,
                            projection,
                            ..Recurrent::new(cell, direction)
                        },
                        samples,
                        steps,
                        units,
                        state: if projection.is_given() { units / 2 } else { units },
                        lengths: lengths.collect(),
                    });
                }
            }
        }
    }
    cases
}

fn assert_all_close(case: &Case, got: &[Vec<f32>], want: &[Array]) {
    assert_eq!(got.len(), want.len(), "{:?}", case.recurrent);
    for (got, want) in got.iter().zip(want) {
        assert_close(got, &want.data, 40.0 * rounding(case.units));
    }
}

#[test]
fn steps_are_their_meaning() {
    for case in cases() {
        let want = case.want();
        everywhere(|pool, isa| {
            assert_all_close(&case, &case.forward(pool, isa, true), &want);
        });
        let got = case.forward(&pool(2), Isa::best(), false);
        assert_eq!(got, case.forward(&pool(2), Isa::best(), true), "row-major weights");
    }
}

#[test]
fn steps_back_are_their_meaning() {
    for (number, case) in cases().into_iter().enumerate() {
        let given = |bit: usize| match number >> bit & 1 {
            0 => Presence::Given,
            _ => Presence::Absent,
        };
        let cell = if case.recurrent.cell == Cell::Lstm { given(2) } else { Presence::Absent };
        let upstream = Upstream { output: given(0), hidden: given(1), cell };
        let want = case.want_backward(upstream);
        everywhere(|pool, isa| {
            assert_all_close(&case, &case.backward(pool, isa, upstream), &want);
        });
    }
}

/// In `f32` a sum may end on the other side of where its rounding as a factor changes, and the sequence
/// goes on from there: so a few elements may be as far off as a factor's last bit is.
#[test]
fn factors_are_rounded_in_every_step() {
    for (factors, last_bit) in
        [(Precision::Tf32, 2e-3), (Precision::Bf16, 1.6e-2), (Precision::F16, 2e-3)]
    {
        let (mut elements, mut others) = (0, 0);
        let mut compare = |case: &Case, got: &[Vec<f32>], want: &[Array]| {
            for (got, want) in got.iter().zip(want) {
                assert_close(got, &want.data, last_bit);
                let tolerance = 40.0 * rounding(case.units);
                let is_other = |(got, want): &(&f32, &f64)| {
                    (f64::from(**got) - **want).abs() > tolerance * want.abs().max(1.0)
                };
                elements += got.len();
                others += got.iter().zip(&want.data).filter(is_other).count();
            }
        };
        let all = Presence::Given;
        for mut case in cases() {
            case.recurrent.factors = factors;
            let cell = if case.recurrent.cell == Cell::Lstm { all } else { Presence::Absent };
            let upstream = Upstream { output: all, hidden: all, cell };
            let (want, back) = (case.want(), case.want_backward(upstream));
            for isa in Isa::available() {
                for in_panels in [true, false] {
                    compare(&case, &case.forward(&pool(2), isa, in_panels), &want);
                }
                compare(&case, &case.backward(&pool(2), isa, upstream), &back);
            }
        }
        assert!(others * 100 < elements, "{factors:?}: {others} of {elements}");
    }
}

#[test]
fn no_bit_depends_on_the_number_of_threads() {
    let all = Presence::Given;
    for case in cases() {
        let cell = if case.recurrent.cell == Cell::Lstm { all } else { Presence::Absent };
        let upstream = Upstream { output: all, hidden: all, cell };
        for isa in Isa::available() {
            let bits = |threads| {
                let pool = pool(threads);
                let all = [case.forward(&pool, isa, true), case.backward(&pool, isa, upstream)];
                all.concat().concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let once = bits(1);
            assert!(
                [2, 3, 7].into_iter().all(|threads| bits(threads) == once),
                "{:?}",
                case.recurrent
            );
        }
    }
}

#[test]
fn lengths_that_no_sequence_can_have_count_as_the_nearest() {
    let mut case = cases().into_iter().find(|case| case.recurrent.lengths.is_given()).unwrap();
    (case.samples, case.steps, case.lengths) = (3, 4, vec![-1, 2, 9]);
    let want = case.want();
    everywhere(|pool, isa| assert_all_close(&case, &case.forward(pool, isa, true), &want));
}
