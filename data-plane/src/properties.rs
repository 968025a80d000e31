//! What must hold for every sequence of requests and answers, tried on the whole pipeline without a socket: clients
//! and vendors are two ends of memory and one thread runs everything, so a case that fails does so again and shrinks.

mod stand;
