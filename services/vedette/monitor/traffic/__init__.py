"""From the stream to windows: captures and labels read, tabulated, folded, kept at rest."""
