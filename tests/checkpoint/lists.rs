// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks that take lists of values.

use kiln::nn::Module;
use kiln::Var;

use super::*;

/// A network of one value that takes it in a list.
struct InList(SimpleNet);

impl Module<Vec<Var>> for InList {
    fn forward(&self, inputs: &Vec<Var>) -> Var {
        self.0.forward(&inputs[0])
    }
}

#[test]
fn a_list_of_one_value_goes_on_where_that_value_stopped() {
    let dir = TempDir::new().unwrap();
    let (mut one, progress) = saved(&dir, Adam::new(1e-2));
    let before = fs::read(dir.path().join(TRAINING_FILE)).unwrap();
    let make = |p: &kiln::nn::Scope| InList(SimpleNet::new(p, 6, 5, 3, 0.5));
    let net = Net::new(Device::cpu(), Seed(1), make).unwrap();
    let mut listed = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-2)).unwrap();
    assert_eq!(checkpoint::load(&mut listed, dir.path()).unwrap(), progress);
    checkpoint::save(&mut listed, &progress, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join(TRAINING_FILE)).unwrap(), before);
    let (x, labels) = batch(5);
    let loss = listed.step(&vec![x], &labels).unwrap().value().unwrap();
    assert_eq!(vec![loss.to_bits()], steps(&mut one, 5..6));
}
