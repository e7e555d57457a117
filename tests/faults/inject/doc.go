// Package inject breaks a running stack.
package inject
