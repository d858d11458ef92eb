"""pytest puts the folder of this file on sys.path, where the tests of every group find `by_location`."""
