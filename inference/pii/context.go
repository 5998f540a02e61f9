package pii

// What a word nearby is about.
const (
	aboutPhone  = iota
	aboutNumber // "number": a weak hint at a phone
	aboutCard
	aboutSSN
	aboutIP
	aboutVersion
	aboutGoods // order numbers, parts: what has numbers of any form
	aboutOther // goods, ids, amounts, times: what looks like personal data and isn't
	topics
)

// far is the distance of a topic that isn't near.
const far = 99

// nearby has, by topic, how many words lie between a place and the nearest word
// about it, plus one; 0 for none.
type nearby [topics]uint8

func (n nearby) distance(topic int) int {
	if n[topic] == 0 {
		return far
	}
	return int(n[topic])
}

// names reports whether a word about the topic names the place itself: order 12,
// order number 12, order id 12; not: the order was charged to 12.
func (n nearby) names(topic int) bool {
	d := n.distance(topic)
	return d == 1 || d == 2 && (n.distance(aboutNumber) == 1 || n.distance(aboutOther) == 1)
}

const (
	reachBytes = 72
	reachWords = 8
)

// context looks at the words before i, and at the text's label where the text
// begins close to i.
func (s *scan) context(i int) nearby {
	if s.nearOf == i {
		return s.near
	}
	var n nearby
	words := look(&n, s.text[max(0, i-reachBytes):i], 0)
	if i < reachBytes && words < reachWords {
		look(&n, s.label, words)
	}
	s.steps += reachBytes
	s.near, s.nearOf = n, i
	return n
}

// look notes the topics of the words of text, from its end, and returns how many
// there were with those counted before.
func look(n *nearby, text string, words int) int {
	for end := len(text); end > 0 && words < reachWords; {
		digits := 0
		for end > 0 && !letter(text[end-1]) {
			end--
			switch c := text[end]; {
			case digit(c):
				digits++
			case c == '\n' || c == ';' || c == '|' || c == '}' || c == '.' && sentenceEnds(text, end):
				digits = 3
			}
			// What stands before another number, or in another sentence, is not about this one.
			if digits >= 3 {
				n.bar(aboutGoods)
				n.bar(aboutOther)
				n.bar(aboutNumber)
			}
		}
		start := end
		for start > 0 && letter(text[start-1]) {
			start--
		}
		if start == end {
			break
		}
		words++
		// Letters beside digits are of a code: a9cc3d.
		coded := start > 0 && digit(text[start-1]) || end < len(text) && digit(text[end])
		if !coded && !n.note(text[start:end], words) {
			// phoneNumber: a capital after small letters begins a word.
			for i := end - 1; i > start && words < reachWords; i-- {
				if text[i]-'A' < 26 && text[i-1]-'a' < 26 {
					n.note(text[i:end], words)
					words++
					end = i
				}
			}
			n.note(text[start:end], words)
		}
		end = start
	}
	return words
}

// sentenceEnds reports whether the dot at i ends a sentence, and no abbreviation.
func sentenceEnds(text string, i int) bool {
	return i+1 < len(text) && text[i+1] == ' ' && i > 3 && letter(text[i-1]) && letter(text[i-2]) && letter(text[i-3]) && letter(text[i-4])
}

// bar keeps a topic that has no word yet from having one further away.
func (n *nearby) bar(topic int) {
	if n[topic] == 0 {
		n[topic] = far
	}
}

// note notes the topics of a word at a distance, and reports whether it has any.
func (n *nearby) note(word string, distance int) bool {
	mask := topicsOf(word)
	for topic := range n {
		if mask&(1<<topic) != 0 && n[topic] == 0 {
			n[topic] = uint8(distance)
		}
	}
	return mask != 0
}

func letter(c byte) bool { return letters[c] }

// letters has the bytes of which words are made, as they count here.
var letters = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x80 || alpha(byte(c))
	}
	return t
}()

const longestTopicWord = 24

func topicsOf(word string) uint16 {
	n := len(word)
	if n > longestTopicWord || topicEnds[word[0]]&topicEnds[word[n-1]]&(1<<n) == 0 {
		return 0
	}
	var buf [longestTopicWord]byte
	for i := range len(word) {
		buf[i] = lower(word[i])
	}
	return topicWords[string(buf[:n])]
}

// topicEnds has, by the first and last bytes of words, the lengths that such words
// have, as bits: most other words stop there.
var topicEnds = func() (t [256]uint32) {
	for word := range topicWords {
		for _, c := range []byte{word[0], word[len(word)-1]} {
			t[c] |= 1 << len(word)
			if alpha(c) {
				t[c&^0x20] |= 1 << len(word)
			}
		}
	}
	return t
}()

// follows reports whether one of the two words after i is about a topic.
func (s *scan) follows(i, topic int) bool {
	end := min(len(s.text), i+24)
	s.steps += 24
	for words := 0; words < 2; words++ {
		for i < end && !letter(s.text[i]) {
			if c := s.text[i]; c == '\n' || digit(c) {
				return false
			}
			i++
		}
		start := i
		for i < end && letter(s.text[i]) {
			i++
		}
		if start == i {
			return false
		}
		if topicsOf(s.text[start:i])&(1<<topic) != 0 {
			return true
		}
	}
	return false
}
