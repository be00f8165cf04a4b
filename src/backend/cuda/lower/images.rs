// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pooling and normalisation of images that lie channels-last.

use super::Lowering;
use crate::backend::cuda::abi_images::*;
use crate::backend::cuda::geometry::{divider, vector};
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::{single, word};
use crate::backend::cuda::windows::{window, Matrix};
use crate::kernel::Planes;
use crate::op::{AvgPool, Divisor, MaxPool, Normalize, Op, Over, Window};
use crate::{DType, Result, Shape};

impl Lowering<'_> {
    pub(super) fn max_pool(&mut self, pool: MaxPool) -> Result<Vec<Launch>> {
        let dtype = self.type_of(&[0], &[0]);
        let (x, y) = (self.input_shape(0).clone(), self.output_shape(0).clone());
        let mut params = pooling(&pool.0, &x, &y, dtype);
        (params.x, params.y) = (self.read_as(0, dtype)?, self.write_as(0, dtype)?);
        if self.step.outputs.len() > 1 {
            params.index = self.write(1)?;
        }
        Ok(vec![pool_launch("max_pool", dtype, &y, params)])
    }

    pub(super) fn max_pool_gradient(
        &mut self,
        pool: MaxPool,
        planes: Planes,
    ) -> Result<Vec<Launch>> {
        let dtype = self.type_of(&[1], &[0]);
        let (y, x) = (self.input_shape(1).clone(), self.output_shape(0).clone());
        let mut params = pooling(&pool.0, &x, &y, dtype);
        params.planar = u32::from(planes == Planes::Apart);
        params.index = self.read(0)?;
        (params.y, params.x) = (self.read_as(1, dtype)?, self.write_as(0, dtype)?);
        Ok(vec![pool_launch("max_pool_gradient", dtype, &x, params)])
    }

    pub(super) fn avg_pool(&mut self, pool: AvgPool, planes: Planes) -> Result<Vec<Launch>> {
        let dtype = self.type_of(&[0], &[0]);
        let (x, y) = (self.input_shape(0).clone(), self.output_shape(0).clone());
        let mut params = averaging(&pool, &x, &y, dtype);
        params.planar = u32::from(planes == Planes::Apart);
        (params.x, params.y) = (self.read_as(0, dtype)?, self.write_as(0, dtype)?);
        Ok(vec![pool_launch("avg_pool", dtype, &y, params)])
    }

    pub(super) fn avg_pool_gradient(
        &mut self,
        pool: AvgPool,
        planes: Planes,
    ) -> Result<Vec<Launch>> {
        let dtype = self.type_of(&[0], &[0]);
        let (y, x) = (self.input_shape(0).clone(), self.output_shape(0).clone());
        let mut params = averaging(&pool, &x, &y, dtype);
        params.planar = u32::from(planes == Planes::Apart);
        (params.y, params.x) = (self.read_as(0, dtype)?, self.write_as(0, dtype)?);
        Ok(vec![pool_launch("avg_pool_gradient", dtype, &x, params)])
    }

    pub(super) fn statistics(&mut self, over: Over) -> Result<Vec<Launch>> {
        self.statistics_of(over, self.step.outputs.len(), KilnRunning::default())
    }

    /// So many of mean and variance, the step's first outputs, and the state that follows them.
    pub(super) fn statistics_of(
        &mut self,
        over: Over,
        outputs: usize,
        running: KilnRunning,
    ) -> Result<Vec<Launch>> {
        let dtype = self.type_of(&[0], &[]);
        let mut matrix = Matrix::new(over, self.input_shape(0), dtype);
        let (variant, grid) = matrix.summed(self.machine);
        let params = KilnNormalizeParams {
            x: self.read_as(0, dtype)?,
            mean: self.write_as(0, DType::F32)?,
            variance: match outputs {
                1 => Address::NONE,
                _ => self.write_as(1, DType::F32)?,
            },
            groups: self.groups(&matrix),
            running,
            ..Default::default()
        };
        Ok(vec![Launch::new(format!("statistics_{variant}_{dtype}"), grid, params)])
    }

    pub(super) fn statistics_gradient(&mut self, over: Over) -> Result<Vec<Launch>> {
        let line = KilnNormalizeParams {
            variance: self.read_as(3, DType::F32)?,
            shift: self.read_as(2, DType::F32)?,
            is_gradient: 1,
            ..Default::default()
        };
        self.line(over, line)
    }

    pub(super) fn normalize(&mut self, normalize: Normalize) -> Result<Vec<Launch>> {
        let mut line = KilnNormalizeParams {
            variance: self.read_as(2, DType::F32)?,
            eps: single(normalize.eps),
            ..Default::default()
        };
        if self.step.inputs.len() > 4 {
            line.gamma = self.read_as(3, DType::F32)?;
            line.shift = self.read_as(4, DType::F32)?;
        }
        self.line(normalize.over, line)
    }

    /// A straight line through each group, around its mean.
    fn line(&mut self, over: Over, line: KilnNormalizeParams) -> Result<Vec<Launch>> {
        let dtype = self.type_of(&[0], &[0]);
        let mut matrix = Matrix::new(over, self.input_shape(0), dtype);
        let (variant, grid) = matrix.mapped(self.machine);
        let params = KilnNormalizeParams {
            x: self.read_as(0, dtype)?,
            mean: self.read_as(1, DType::F32)?,
            y: self.write_as(0, dtype)?,
            groups: matrix.groups,
            ..line
        };
        Ok(vec![Launch::new(format!("line_{variant}_{dtype}"), grid, params)])
    }

    pub(super) fn normalize_gradient(&mut self, normalize: Normalize) -> Result<Vec<Launch>> {
        let dtype = self.type_of(&[0, 1], &[0]);
        let mut matrix = Matrix::new(normalize.over, self.input_shape(0), dtype);
        let (variant, grid) = matrix.summed(self.machine);
        let mut params = KilnNormalizeParams {
            x: self.read_as(0, dtype)?,
            dy: self.read_as(1, dtype)?,
            mean: self.read_as(2, DType::F32)?,
            variance: self.read_as(3, DType::F32)?,
            y: self.write_as(0, dtype)?,
            eps: single(normalize.eps),
            groups: self.groups(&matrix),
            ..Default::default()
        };
        if self.step.inputs.len() > 4 {
            params.gamma = self.read_as(4, DType::F32)?;
        }
        for (index, &output) in self.step.outputs.iter().enumerate().skip(1) {
            let to = self.write_as(index, DType::F32)?;
            match self.plan.graph.node(output).op {
                Op::Result(1) => params.d_mean = to,
                Op::Result(2) => params.d_variance = to,
                Op::Result(3) => params.d_gamma = to,
                _ => params.d_beta = to,
            }
        }
        Ok(vec![Launch::new(format!("normalize_gradient_{variant}_{dtype}"), grid, params)])
    }

    /// Groups with memory for the parts of columns.
    pub(super) fn groups(&mut self, matrix: &Matrix) -> KilnGroups {
        let mut groups = matrix.groups;
        if groups.splits > 1 {
            groups.partials = self.scratch.numbers(matrix.partials());
            groups.tickets = self.scratch.numbers(matrix.blocks());
        }
        groups
    }

    /// The type in which a kernel takes some operands and yields some results: 16 bits if all of
    /// them are stored so.
    pub(super) fn type_of(&self, inputs: &[usize], outputs: &[usize]) -> DType {
        let low = self.product_type();
        let rounded = |output: &usize| self.plan.buffer(self.step.writes[*output]).rounded;
        let are_low = inputs.iter().all(|&input| self.stored_type(input) == low)
            && outputs.iter().all(|output| rounded(output) == low);
        match are_low {
            true => low,
            false => DType::F32,
        }
    }
}

/// What all pooling kernels need to know.
fn pooling(of: &Window, x: &Shape, y: &Shape, dtype: DType) -> KilnPoolParams {
    let channels = x.dims()[1];
    KilnPoolParams {
        samples: word(x.samples()),
        channels: word(channels),
        chunks: divider(channels.div_ceil(vector(dtype))),
        window: window(of, x, y),
        ..Default::default()
    }
}

fn averaging(pool: &AvgPool, x: &Shape, y: &Shape, dtype: DType) -> KilnPoolParams {
    let (fixed, padded) = match pool.divisor {
        Divisor::Padded => (0, 1),
        Divisor::Valid => (0, 0),
        Divisor::Fixed(number) => (word(number), 0),
    };
    KilnPoolParams { fixed, padded, ..pooling(&pool.window, x, y, dtype) }
}

/// A thread for 16 bytes of channels at each position of the results.
fn pool_launch(kernel: &str, dtype: DType, results: &Shape, params: KilnPoolParams) -> Launch {
    let channels = results.dims()[1];
    let positions = results.elements().checked_div(channels).unwrap_or(0);
    let grid = Grid::over(positions * params.chunks.divisor as usize);
    Launch::new(format!("{kernel}_{dtype}"), grid, params)
}
