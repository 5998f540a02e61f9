package dataset

import (
	"fmt"
	"regexp"
)

// Codes of errors. Those up to CodeNoAssistant are the names that OpenAI's cookbook
// gives; what it doesn't name has names of ours.
const (
	CodeDataType         = "data_type"
	CodeNoMessages       = "missing_messages_list"
	CodeMissingKey       = "message_missing_key"
	CodeUnrecognizedKey  = "message_unrecognized_key"
	CodeUnrecognizedRole = "unrecognized_role"
	CodeMissingContent   = "missing_content"
	CodeNoAssistant      = "example_missing_assistant_message"

	CodeEmptyFile       = "empty_file"
	CodeTooFew          = "too_few_examples"
	CodeTooMany         = "too_many_examples"
	CodeByteOrderMark   = "byte_order_mark"
	CodeWindowsLines    = "windows_line_ending"
	CodeLineTooLong     = "line_too_long"
	CodeEmptyLine       = "empty_line"
	CodeInvalidUTF8     = "invalid_utf8"
	CodeNUL             = "nul_character"
	CodeInvalidJSON     = "invalid_json"
	CodeTooDeep         = "nested_too_deep"
	CodeDuplicateKey    = "duplicate_key"
	CodeExampleKey      = "example_unrecognized_key"
	CodeWrongType       = "wrong_type"
	CodeUnsupportedPart = "unsupported_content_part"
	CodeInvalidWeight   = "invalid_weight"
	CodeLastMessage     = "last_message_not_assistant"
	CodePersonalData    = "personal_data"
)

// LineError is what is wrong with a line: its number, from 1, or 0 for the file as a
// whole. Message is a sentence for whoever made the file, and quotes nothing of it.
type LineError struct {
	Line    int    `json:"line"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *LineError) Error() string {
	if e.Line == 0 {
		return e.Code + ": " + e.Message
	}
	return fmt.Sprintf("line %d: %s: %s", e.Line, e.Code, e.Message)
}

func flaw(line int, code, format string, args ...any) *LineError {
	return &LineError{line, code, fmt.Sprintf(format, args...)}
}

// plainName fits the names of members that an error may repeat. A name with digits
// may be a number or a key that stands in the wrong place.
var plainName = regexp.MustCompile(`^[A-Za-z_]{1,32}$`)

// called is how an error names a member.
func called(name string) string {
	if plainName.MatchString(name) {
		return `a member "` + name + `"`
	}
	return "a member"
}
