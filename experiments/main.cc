#include "experiments/cli/program.h"

int main(int argc, char** argv) { return moerl::cli::run_program(argc, argv); }
