//! Sets of JSON pointers, compiled into a tree that a scanner walks as it meets the names.

/// Steps a pointer may have; deeper than any vendor goes.
pub const MAX_DEPTH: usize = 8;
/// Pointers a set may have.
pub const MAX_POINTERS: usize = 128;
/// The step that stands for every element of an array.
pub const EVERY: &str = "*";

/// A text that is no pointer this module can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPointer;

/// Where a pointer's value is kept: its place in the list the set was made of.
pub type Slot = u8;

/// A compiled set.
#[derive(Clone, Debug, Default)]
pub struct Pointers {
    nodes: Vec<Node>,
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Node {
    children: Vec<Child>,
    /// Of an array.
    element: Option<usize>,
    slots: Vec<Slot>,
    passed: Option<Passed>,
}

#[derive(Clone, Debug)]
struct Child {
    /// The first bytes of its name: tells most names apart without going there.
    head: u64,
    name: Box<[u8]>,
    node: usize,
}

/// Up to eight bytes, filled up with zeros.
fn head(name: &[u8]) -> u64 {
    match name.first_chunk() {
        Some(head) => u64::from_le_bytes(*head),
        None => name.iter().rev().fold(0, |head, byte| head << 8 | u64::from(*byte)),
    }
}

/// Why a text is handed on as it passes, whatever its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It is what the model said.
    Text,
    /// It is another document, in base64.
    Document,
}

/// A place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize);

impl Pointers {
    /// Compiles `/a/b` texts; a step `*` stands for every element of an array.
    pub fn new<'a>(pointers: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPointer> {
        let mut set = Self { nodes: vec![Node::default()], len: 0 };
        for pointer in pointers {
            if set.len == MAX_POINTERS {
                return Err(BadPointer);
            }
            let at = set.grow(pointer)?;
            set.nodes[at].slots.push(Slot::try_from(set.len).map_err(|_| BadPointer)?);
            set.len += 1;
        }
        Ok(set)
    }

    /// The texts there are handed on as they pass. Beside a slot of the same place it has no effect.
    pub fn pass(&mut self, pointer: &str, passed: Passed) -> Result<(), BadPointer> {
        let at = self.grow(pointer)?;
        self.nodes[at].passed = Some(passed);
        Ok(())
    }

    fn grow(&mut self, pointer: &str) -> Result<usize, BadPointer> {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let steps: Vec<_> = pointer.strip_prefix('/').ok_or(BadPointer)?.split('/').collect();
        if steps.len() > MAX_DEPTH || steps.contains(&"") {
            return Err(BadPointer);
        }
        let mut at = 0;
        for step in steps {
            let name = step.replace("~1", "/").replace("~0", "~").into_bytes().into_boxed_slice();
            let known = if step == EVERY { self.nodes[at].element } else { self.find(at, &name) };
            at = known.unwrap_or_else(|| {
                self.nodes.push(Node::default());
                let node = self.nodes.len() - 1;
                if step == EVERY {
                    self.nodes[at].element = Some(node);
                } else {
                    self.nodes[at].children.push(Child { head: head(&name), name, node });
                }
                node
            });
        }
        Ok(at)
    }

    /// How many pointers were compiled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where a document begins.
    pub fn root(&self) -> Place {
        Place(0)
    }

    /// Below `place` under this name.
    pub fn child(&self, place: Place, name: &[u8]) -> Option<Place> {
        self.find(place.0, name).map(Place)
    }

    fn find(&self, at: usize, name: &[u8]) -> Option<usize> {
        let head = head(name);
        let is = |child: &&Child| child.head == head && *child.name == *name;
        self.nodes.get(at)?.children.iter().find(is).map(|child| child.node)
    }

    /// Whether a name that is looked for below `place` is this one in another case.
    pub fn has_like(&self, place: Place, name: &[u8]) -> bool {
        self.nodes.get(place.0).is_some_and(|node| {
            node.children.iter().any(|child| child.name.eq_ignore_ascii_case(name) && *child.name != *name)
        })
    }

    /// The pointers that end here.
    pub fn slots(&self, place: Place) -> &[Slot] {
        self.nodes.get(place.0).map_or(&[], |node| &node.slots)
    }

    /// Whether anything is looked for below.
    pub fn has_children(&self, place: Place) -> bool {
        self.nodes.get(place.0).is_some_and(|node| !node.children.is_empty())
    }

    /// What an array at `place` consists of.
    pub fn element(&self, place: Place) -> Option<Place> {
        self.nodes.get(place.0)?.element.map(Place)
    }

    /// Why a text at `place` is handed on as it passes.
    pub fn passed(&self, place: Place) -> Option<Passed> {
        self.nodes.get(place.0)?.passed
    }
}
