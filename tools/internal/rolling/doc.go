// Package rolling restarts services under load and shows what their users notice of it: nothing. It has tests only; they
// need what the native stack needs, and the services' binaries:
//
//	make test-rolling-native
package rolling
