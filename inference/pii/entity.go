package pii

// Entity is a kind of personal data or secret.
type Entity string

// The entities. URL is the user and password inside a URL; KEY is a private key
// in PEM, an API key, a password or another credential; CUSTOM is what a tenant's
// deny list names.
const (
	Email  Entity = "EMAIL"
	Card   Entity = "CARD"
	IBAN   Entity = "IBAN"
	SSN    Entity = "SSN"
	Phone  Entity = "PHONE"
	IP     Entity = "IP"
	MAC    Entity = "MAC"
	URL    Entity = "URL"
	JWT    Entity = "JWT"
	Key    Entity = "KEY"
	Custom Entity = "CUSTOM"
)

// OneWay reports whether the entity's values are secrets, which a session tags
// and never restores.
func (e Entity) OneWay() bool { return e == URL || e == JWT || e == Key }

// tag is what replaces a value for good.
func (e Entity) tag() string { return "[" + string(e) + "]" }

// The candidate classes: where in a text a recogniser is asked. A word is a run of
// ASCII letters, digits and underscores; one may belong to several classes.
const (
	number = 1 << iota // at a word that begins with a digit
	mixed              // at a word that begins with a letter and has a digit
	joined             // at a word of letters alone with a - or a . behind it, or of 16 or more
	hexed              // at a word of the letters a to f alone with a :, - or . behind it
	label              // at a word that ends like the label of a secret
	at                 // at an @
	colon              // at a :
	plus               // at a + or a (
	dash               // at a -
)

// recognisers is the table of entities. At each candidate those of its class are
// asked in this order; the first that finds something has it. To add an entity is
// to add its row: find returns the span of the match that the candidate at s.at
// belongs to, or an empty one. It may look at a bounded stretch around the
// candidate, or further ahead only over bytes that no later candidate has it look
// at again.
var recognisers = [...]recogniser{
	{Key, mixed | joined, (*scan).apiKey},
	{JWT, mixed | joined, (*scan).jwt},
	{Key, label, (*scan).labelledSecret},
	{Key, dash, (*scan).pem},
	{URL, colon, (*scan).credentials},
	{Email, at, (*scan).email},
	{MAC, number | mixed | hexed, (*scan).mac},
	{IP, number, (*scan).ipv4},
	{IP, number | mixed | hexed | colon, (*scan).ipv6},
	{IBAN, mixed, (*scan).iban},
	{Card, number, (*scan).card},
	{SSN, number, (*scan).ssn},
	{Phone, number | plus, (*scan).phone},
}

type recogniser struct {
	entity Entity
	class  uint16
	find   func(s *scan) (start, end int)
}
