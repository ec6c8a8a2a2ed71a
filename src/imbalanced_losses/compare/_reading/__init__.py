"""Files, frames and arrays of any form -> a `Table`, or a sentence that says why not."""
