package catalog

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what a row may hold.
const (
	maxName         = 200
	maxShort        = 64
	maxLabels       = 64
	maxLabelValue   = 256
	maxPrompt       = 32 << 10
	maxModels       = 200
	maxWords        = 200 // of what is never, or always, personal data
	maxFallbacks    = 8
	maxBound        = 10_000_000 // tokens of one answer, message or part
	maxURL          = 2048
	maxCA           = 64 << 10
	maxSecret       = 4096
	maxTokens       = int64(1) << 50
	maxConcurrent   = 100_000
	maxWork         = 10_000 // jobs of a tenant
	maxStored       = int64(1) << 50
	maxRetention    = 3650
	maxAuditDetails = 64 << 10
)

var (
	slugPattern   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,61}[a-z0-9]$`)
	serverPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	enginePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	modelPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)
	allowPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}\*?$|^\*$`)
	shortPattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	labelPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`)
	trainPattern  = regexp.MustCompile(`^(builtin|openai|command:[a-z0-9][a-z0-9-]{0,62})$`)
	pricePattern  = regexp.MustCompile(`^[0-9]{1,12}(\.[0-9]{1,6})?$`)
)

// Invalid is a refusal of arguments. It is an ErrInvalid.
type Invalid struct {
	Field string // the first one at fault, by its name on the wire; may be empty
	Text  string // names each field at fault and what is wanted of it
}

func (e *Invalid) Error() string { return ErrInvalid.Error() + ": " + e.Text }

// Is reports whether target is ErrInvalid.
func (e *Invalid) Is(target error) bool { return target == ErrInvalid }

// invalid makes one *Invalid of all that is wrong; nil when nothing is.
func invalid(errs ...error) error {
	e := &Invalid{}
	var texts []string
	for _, err := range errs {
		if err == nil {
			continue
		}
		var f *fieldError
		if errors.As(err, &f) && len(texts) == 0 {
			e.Field = f.field
		}
		texts = append(texts, err.Error())
	}
	if len(texts) == 0 {
		return nil
	}
	e.Text = strings.Join(texts, "; ")
	return e
}

// fieldError is what is wrong with a field. It never quotes the value: some are
// secrets, and all come from outside.
type fieldError struct{ field, text string }

func (e *fieldError) Error() string { return e.field + ": " + e.text }

func wrong(field, format string, args ...any) error {
	return &fieldError{field, fmt.Sprintf(format, args...)}
}

func match(field, value string, pattern *regexp.Regexp, want string) error {
	if pattern.MatchString(value) {
		return nil
	}
	return wrong(field, "want %s", want)
}

func optional(value string, check error) error {
	if value == "" {
		return nil
	}
	return check
}

// text refuses what Postgres can't store (NUL) or a terminal would obey.
func text(field, value string, bound int) error {
	switch {
	case len(value) > bound:
		return wrong(field, "longer than %d bytes", bound)
	case !utf8.ValidString(value):
		return wrong(field, "not UTF-8")
	case strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) }):
		return wrong(field, "holds a control character")
	}
	return nil
}

func line(field, value string, bound int) error {
	if strings.ContainsAny(value, "\r\n\t\v\f") {
		return wrong(field, "more than one line")
	}
	return text(field, value, bound)
}

func within[T int | int64](field string, value, low, high T) error {
	if value < low || value > high {
		return wrong(field, "want %d to %d", low, high)
	}
	return nil
}

func oneOf(field, value string, choices ...string) error {
	if slices.Contains(choices, value) {
		return nil
	}
	return wrong(field, "want %s", strings.Join(choices, ", "))
}

func (s TenantSpec) validate() error {
	const short = "lower-case letters, digits, dots, dashes, 64 at most"
	errs := []error{
		match("slug", s.Slug, slugPattern, "2 to 63 of a-z, 0-9 and dashes, beginning with a letter, not ending with a dash"),
		line("name", s.Name, maxName),
		line("email", s.Email, maxName),
		optional(s.Plan, match("plan", s.Plan, shortPattern, short)),
		optional(s.Region, match("region", s.Region, shortPattern, short)),
		optional(s.Server, match("server", s.Server, serverPattern, "a server's name")),
	}
	if s.Email != "" && !strings.Contains(s.Email, "@") {
		errs = append(errs, wrong("email", "not an address"))
	}
	if len(s.Labels) > maxLabels {
		errs = append(errs, wrong("labels", "more than %d", maxLabels))
	}
	for key, value := range s.Labels {
		errs = append(errs,
			match("labels", key, labelPattern, "keys of 1 to 63 letters, digits, dots, dashes, slashes"),
			line("labels", value, maxLabelValue))
	}
	if len(s.Pin) > maxLabels {
		errs = append(errs, wrong("pin", "more than %d", maxLabels))
	}
	for key, value := range s.Pin {
		errs = append(errs,
			match("pin", key, labelPattern, "keys of 1 to 63 letters, digits, dots, dashes, slashes"),
			line("pin", value, maxLabelValue))
	}
	return invalid(errs...)
}

func (s ServerSpec) validate() error {
	errs := []error{
		match("name", s.Name, serverPattern, "1 to 63 of a-z, 0-9 and dashes, beginning with a letter"),
		optional(s.Region, match("region", s.Region, shortPattern, "lower-case letters, digits, dots, dashes, 64 at most")),
		oneOf("ssl_mode", s.SSLMode, "disable", "require", "verify-full"),
		within("port", s.Port, 1, 65535),
		within("version", s.Version, 150000, 999999),
		within("max_connections", s.MaxConnections, 1, 262143),
		within("reserve", s.Reserve, 1, s.MaxConnections),
		within("budget", s.Budget, 1, s.MaxConnections),
		line("admin_user", s.AdminUser, 63),
		text("password", s.Password, maxSecret),
	}
	if s.Host == "" || len(s.Host) > 255 || strings.ContainsAny(s.Host, " ,'\\\r\n\t") {
		errs = append(errs, wrong("host", "want one host name, address or socket folder"))
	}
	if s.AdminUser == "" {
		errs = append(errs, wrong("admin_user", "missing"))
	}
	if s.SSLRootCA != "" {
		switch {
		case s.SSLMode != "verify-full":
			// Else a certificate would be pinned that nothing compares.
			errs = append(errs, wrong("ssl_root_ca", "needs ssl_mode verify-full"))
		case len(s.SSLRootCA) > maxCA || !x509.NewCertPool().AppendCertsFromPEM([]byte(s.SSLRootCA)):
			errs = append(errs, wrong("ssl_root_ca", "not a certificate in PEM"))
		}
	}
	return invalid(append(errs, s.placement().check()...)...)
}

func (s EngineSpec) validate() error {
	errs := []error{
		match("name", s.Name, enginePattern, "1 to 63 of a-z, 0-9, dots, dashes, underscores"),
		oneOf("kind", s.Kind, "builtin", "openai"),
	}
	if len(s.Key) > maxSecret {
		errs = append(errs, wrong("key", "longer than %d bytes", maxSecret))
	}
	if strings.ContainsFunc(s.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		errs = append(errs, wrong("key", "holds a character that no header can carry"))
	}
	if s.Timeout < 0 || s.Timeout.Hours() > 24 {
		errs = append(errs, wrong("timeout_seconds", "want up to 24 h"))
	}
	u, err := url.Parse(s.BaseURL)
	switch {
	case s.Kind == "builtin" && s.BaseURL != "":
		errs = append(errs, wrong("base_url", "a builtin engine has none"))
	case s.Kind != "openai":
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || len(s.BaseURL) > maxURL:
		errs = append(errs, wrong("base_url", "want http:// or https://"))
	case u.User != nil:
		errs = append(errs, wrong("base_url", "holds a password; give the key apart"))
	case u.RawQuery != "" || u.Fragment != "":
		errs = append(errs, wrong("base_url", "want neither query nor fragment"))
	}
	return invalid(errs...)
}

func (p ConfigPatch) validate() error {
	var errs []error
	if p.AllowedModels != nil {
		errs = append(errs, allowList(*p.AllowedModels))
	}
	if p.SystemPromptOverride != nil {
		errs = append(errs, text("system_prompt_override", *p.SystemPromptOverride, maxPrompt))
	}
	if p.MonthlyTokenLimit != nil {
		errs = append(errs, within("monthly_token_limit", *p.MonthlyTokenLimit, 0, maxTokens))
	}
	if p.ConcurrentRequestLimit != nil {
		errs = append(errs, within("concurrent_request_limit", *p.ConcurrentRequestLimit, 1, maxConcurrent))
	}
	if p.PredictionLogRetentionDays != nil {
		errs = append(errs, within("prediction_log_retention_days", *p.PredictionLogRetentionDays, 0, maxRetention))
	}
	if p.FineTuningRunningLimit != nil {
		errs = append(errs, within("fine_tuning_running_limit", *p.FineTuningRunningLimit, 0, maxWork))
	}
	if p.FineTuningQueueLimit != nil {
		errs = append(errs, within("fine_tuning_queue_limit", *p.FineTuningQueueLimit, 0, maxWork))
	}
	if p.FileStorageLimit != nil {
		errs = append(errs, within("file_storage_limit", *p.FileStorageLimit, 0, maxStored))
	}
	if p.PIIMode != nil {
		errs = append(errs, oneOf("pii_mode", *p.PIIMode, "redact", "restore", "block"))
	}
	errs = append(errs, words("pii_allow", p.PIIAllow), words("pii_deny", p.PIIDeny))
	return invalid(errs...)
}

// allowList checks a list of models that may be used: names, and prefixes with an
// asterisk.
func allowList(models []string) error {
	if len(models) > maxModels {
		return wrong("allowed_models", "more than %d", maxModels)
	}
	for _, m := range models {
		if err := match("allowed_models", m, allowPattern, "model names, a prefix with an asterisk, or *"); err != nil {
			return err
		}
	}
	return nil
}

// words checks a list of words and phrases of a tenant.
func words(field string, list *[]string) error {
	if list == nil {
		return nil
	}
	if len(*list) > maxWords {
		return wrong(field, "more than %d", maxWords)
	}
	for _, w := range *list {
		if strings.TrimSpace(w) == "" {
			return wrong(field, "holds an empty entry")
		}
		if utf8.RuneCountInString(w) > maxName {
			return wrong(field, "an entry has more than %d characters", maxName)
		}
		if err := line(field, w, maxName*utf8.UTFMax); err != nil {
			return err
		}
	}
	return nil
}
