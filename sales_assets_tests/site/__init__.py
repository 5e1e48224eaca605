"""Documentation site: builds docs/, and the source files that its pages link to, into HTML with Zensical."""
