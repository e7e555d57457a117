package accept

import "regexp"

// HasTable reports whether texts are matched against an expression by a table.
func HasTable(expr string) bool { return newPattern(regexp.MustCompile(expr)).steps != nil }
