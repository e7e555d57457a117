package observe

import (
	"log/slog"
	"regexp"
	"strings"
)

// Masked stands in prints for what must not be read there.
const Masked = "***"

var (
	// userinfo is the password in scheme://user:password@host. It is greedy up to the last @ before a slash or space,
	// because a password that was not escaped may hold an @ itself.
	userinfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s:/@]*):[^\s/]*@`)
	// secretParam is a password in a URL's query or in a key=value connection string.
	secretParam = regexp.MustCompile(`(?i)\b(password|passwd|sslpassword|secret|token|api_?key|access_?key)=[^&\s"']+`)
)

// Mask returns text with the passwords of URLs and connection strings replaced by Masked.
func Mask(text string) string {
	if strings.Contains(text, "@") {
		text = userinfo.ReplaceAllString(text, "${1}:"+Masked+"@")
	}
	if strings.Contains(text, "=") {
		text = secretParam.ReplaceAllString(text, "${1}="+Masked)
	}
	return text
}

var secretNames = []string{"password", "passwd", "secret", "authorization", "api_key", "apikey", "access_key"}

// secretName reports whether a value under name is one that nobody should read in a log.
func secretName(name string) bool {
	name = strings.ToLower(name)
	for _, secret := range secretNames {
		if strings.Contains(name, secret) {
			return true
		}
	}
	return name == "token" || strings.HasSuffix(name, "_token")
}

func maskAttr(_ []string, a slog.Attr) slog.Attr {
	if secretName(a.Key) {
		return slog.String(a.Key, Masked)
	}
	switch a.Value.Kind() {
	case slog.KindString:
		return slog.String(a.Key, Mask(a.Value.String()))
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok && err != nil {
			return slog.String(a.Key, Mask(err.Error()))
		}
	}
	return a
}
