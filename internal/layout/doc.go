// Package layout decides from names alone which image a backup file belongs to.
//
// People name their exports in many ways: a folder for each image, all images in
// one folder, a folder for each day. What isn't the image's name in a path is
// taken away from it: the snapshots that the file itself names, dates, the words
// full, inc, diff, from, to, and endings. What is left is the image.
//
// Two files of one image may end up as two images, and what builds on the other
// one is then withheld; two images must not end up as one. So a rule takes away
// only what it knows, and a file's content decides wherever it says something.
package layout
