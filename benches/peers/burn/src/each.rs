// SPDX-License-Identifier: MIT OR Apache-2.0
//! All networks, by what cases call them.

/// Calls a function of a network's type; whoever uses it has `Network` and the modules of networks.
macro_rules! with_network {
    ($network:expr, $call:ident($($argument:expr),*)) => {
        match $network {
            Network::Simple => $call::<dense::Simple>($($argument),*),
            Network::Variable => $call::<dense::Variable>($($argument),*),
            Network::Cnn => $call::<images::Cnn>($($argument),*),
            Network::Spatial => $call::<images::Spatial>($($argument),*),
            Network::Residual => $call::<images::Residual>($($argument),*),
            Network::ResnetSmall => $call::<images::Resnet>($($argument),*),
            Network::Rnn => $call::<texts::Rnn>($($argument),*),
        }
    };
}

pub(crate) use with_network;
