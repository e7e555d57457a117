// Package sagatest proves saga definitions. It is imported by tests only.
//
// Golden plays stored histories: every decision of every branch is in a file that a person can read, so no change of
// the transition function or of a definition goes unnoticed. Histories of old versions of a definition stay in the
// folder for as long as sagas of that version may run.
//
// Property plays random ones against a model of participants and of a network that duplicates, reorders, delays and
// loses, and checks the books at the end.
package sagatest
