"""Study: how a study is set up, run, kept, resumed and reported."""
