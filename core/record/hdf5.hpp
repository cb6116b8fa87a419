// hdf5.hpp - Tree to and from the HDF5 format. The library's error printing is silenced; its failures become exceptions.
#pragma once
#include <string>
#include <vector>

#include "record/tree.hpp"

namespace ssm::hdf5 {

// The bytes of the HDF5 file that holds `tree`. Built in memory, so that every failure of the disk is an errno of ours.
// Strings are variable-length UTF-8, bools the two-valued enum that h5py reads as bool, numbers as they are in memory.
std::vector<char> encode(const Tree& tree);

// Reads a whole file; throws BadInput naming the file and the entry. Integers of other widths become int32 or int64, other floats
// float or double.
Tree decode(const std::string& path);

}  // namespace ssm::hdf5
