package pii

import "strings"

// Secrets have no form of their own; a label before them says what they are.
var secretLabels = func() map[string]bool {
	all := map[string]bool{}
	for _, word := range strings.Fields(`password passwd passwort pwd passphrase secret apikey api_key token access_token
		auth_token refresh_token id_token client_secret secret_key secret_access_key aws_secret_access_key private_key
		access_key api_token api_secret bearer secretkey accesstoken authtoken clientsecret passcode
		motdepasse mdp senha db_password database_password`) {
		all[word] = true
	}
	return all
}()

const (
	longestLabel   = 40
	longestSecret  = 256
	shortestSecret = 4
)

// isSecretLabel reports whether a name says that its value is a secret: its whole,
// or what follows its last prefix (DB_PASSWORD, app.clientSecret).
func isSecretLabel(name string) (weak, ok bool) {
	if len(name) < 3 || len(name) > longestLabel {
		return false, false
	}
	var buf [longestLabel]byte
	n := 0
	for i := range len(name) {
		c := lower(name[i])
		if c == '-' || c == ' ' {
			c = '_'
		}
		buf[n] = c
		n++
	}
	before := byte('_')
	for start, c := range buf[:n] {
		begins := before == '_' || before == '.'
		before = c
		if !begins {
			continue
		}
		word := string(buf[start:n])
		if secretLabels[word] {
			return word == "token" || word == "secret" || word == "bearer" || word == "id_token", true
		}
	}
	return false, false
}

// labelledSecret finds the value after a label: password=…, "api_key": "…",
// Authorization: Bearer ….
func (s *scan) labelledSecret() (int, int) {
	length := s.end - s.at
	if length < 3 || length > longestLabel || !maybeLabel(s.text[s.at:s.end]) {
		return 0, 0
	}
	start := s.at
	// api-key, x-api-key: dashes join too.
	for i := 0; i < 3 && s.byteAt(start-1) == '-' && alpha(s.byteAt(start-2)); i++ {
		start -= 2
		for start > 0 && s.end-start < longestLabel && kinds[s.text[start-1]] != 0 {
			start--
		}
	}
	weak, ok := isSecretLabel(s.text[start:s.end])
	if !ok {
		return 0, 0
	}
	i, sign := s.end, byte(0)
	quoted := strings.IndexByte(`"'`, s.byteAt(i)) >= 0 && s.byteAt(i) != 0
	if quoted || s.byteAt(i) == '\\' && s.byteAt(i+1) == '"' {
		i++
		if s.byteAt(i-1) == '\\' {
			i++
		}
	}
	for n := 0; n < 6; n++ {
		c := s.byteAt(i)
		if (c == ':' || c == '=') && (sign == 0 || sign == c) || c == '>' && sign == '=' {
			if sign == 0 {
				sign = c
			}
		} else if c != ' ' && c != '\t' {
			break
		}
		i++
	}
	if sign == 0 {
		bearer := strings.EqualFold(s.text[s.at:s.end], "bearer")
		if !bearer && !isWordAt(s.text[i:], "is") {
			return 0, 0
		}
		if !bearer {
			i += 3
			sign = 'i'
		}
	}
	if isWordAt(s.text[i:], "Bearer") || isWordAt(s.text[i:], "bearer") || isWordAt(s.text[i:], "Basic") {
		i = strings.IndexByte(s.text[i:], ' ') + 1 + i
		sign, weak = 'b', true
	}
	if s.byteAt(i) == '\\' && (s.byteAt(i+1) == '"') {
		i++
	}
	var close byte
	if c := s.byteAt(i); c == '"' || c == '\'' || c == '`' {
		close = c
		i++
	}
	end := i
	for end < len(s.text) && end-i < longestSecret {
		c := s.text[end]
		if c <= ' ' || c == close || close == 0 && strings.IndexByte("\"'`,;<>&)}]", c) >= 0 {
			break
		}
		if c == '\\' && close != 0 && s.byteAt(end+1) == close {
			break
		}
		end++
	}
	s.steps += end - i
	for close == 0 && end > i && strings.IndexByte(".:!?", s.text[end-1]) >= 0 {
		end--
	}
	if strings.HasPrefix(s.text[i:end], "eyJ") {
		return 0, 0 // a token's own form says more
	}
	if !secretValue(s.text[i:end], sign, close != 0, weak) {
		return 0, 0
	}
	return i, end
}

// maybeLabel looks at the end of a word, which spares nearly all words the map.
func maybeLabel(word string) bool {
	n := len(word)
	switch uint32(lower(word[n-3]))<<16 | uint32(lower(word[n-2]))<<8 | uint32(lower(word[n-1])) {
	case 'o'<<16 | 'r'<<8 | 'd', 's'<<16 | 'w'<<8 | 'd', 'o'<<16 | 'r'<<8 | 't', 'p'<<16 | 'w'<<8 | 'd', // password passwd passwort pwd
		'a'<<16 | 's'<<8 | 'e', 's'<<16 | 's'<<8 | 'e', 'm'<<16 | 'd'<<8 | 'p', 'n'<<16 | 'h'<<8 | 'a', // passphrase motdepasse mdp senha
		'r'<<16 | 'e'<<8 | 't', 'k'<<16 | 'e'<<8 | 'y', 'k'<<16 | 'e'<<8 | 'n', 'r'<<16 | 'e'<<8 | 'r', 'o'<<16 | 'd'<<8 | 'e': // secret key token bearer passcode
		return true
	}
	return false
}

func isWordAt(text, word string) bool {
	return strings.HasPrefix(text, word) && len(text) > len(word) && text[len(word)] == ' '
}

// secretValue tells a secret from the prose, variables and masks that can follow
// the same label.
func secretValue(v string, sign byte, quoted, weak bool) bool {
	if len(v) < shortestSecret || strings.IndexByte("$<{[*%(", v[0]) >= 0 {
		return false
	}
	digits, letters, upper, signs, masked := false, false, false, false, true
	for i := range len(v) {
		c := v[i]
		switch {
		case digit(c):
			digits = true
		case alpha(c):
			letters = true
			upper = upper || c-'A' < 26 && i > 0
		default:
			signs = signs || strings.IndexByte("!@#$%^&*+=~|", c) >= 0
		}
		masked = masked && (c == '*' || c == 'x' || c == 'X' || c == '.')
	}
	switch strings.ToLower(v) {
	case "null", "none", "true", "false", "string", "undefined", "required", "optional", "changeme":
		return false
	}
	switch {
	case masked:
		return false
	case weak: // tokens of a text, secrets of success
		return len(v) >= 12 && digits && letters
	case sign == '=' || quoted:
		return true
	default:
		return digits || signs || upper && letters
	}
}

// wholeSecret takes the whole text as a secret where its label says so, and no
// allowed phrase is just that.
func (s *scan) wholeSecret(allow *phrases) bool {
	weak, ok := isSecretLabel(s.label)
	if !ok || s.text == "" || allow.match(s, 0) == len(s.text) || len(s.text) > longestSecret || strings.ContainsAny(s.text, " \t\n") || !secretValue(s.text, '=', true, weak) {
		return false
	}
	s.out = append(s.out, Match{0, len(s.text), Key})
	return true
}
