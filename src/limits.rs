//! Every bound of the program, named with its unit and a why. A number that limits anything lives here and nowhere else.
