package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
)

const (
	magic   = "FHENCODE"
	version = 1

	kindFloat32 = 1
	kindInt16   = 2
)

// tensor is one of the package's tensors: where it lies in the joined shards.
type tensor struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
	Dtype string `json:"dtype"`

	offset, elements int
}

// order lists the tensors in the order of encoder.bin.
func order() []string {
	const (
		m = "module/Encoder_en/KonaTransformer/Encode/"
		a = "module_apply_default/Encoder_en/KonaTransformer/Encode/"
	)
	names := []string{
		"module/Embeddings_en",
		a + "TransformerStack/Layer_0/AddTimingSignal/TimingSignal/ExpandDims_1",
		a + "Layer_0/TransformerLayer/dense/kernel/ConcatPartitions/concat",
		a + "Layer_0/TransformerLayer/dense/bias/ConcatPartitions/concat",
	}
	for _, l := range []string{"Layer_0/TransformerLayer/", "Layer_1/TransformerLayer/"} {
		names = append(names,
			a+l+"layer_prepostprocess/layer_norm/layer_norm_scale/ConcatPartitions/concat",
			a+l+"layer_prepostprocess/layer_norm/layer_norm_bias/ConcatPartitions/concat",
			m+l+"MultiheadAttention/qkv_transform_single/kernel/part_0",
			a+l+"MultiheadAttention/qkv_transform_single/bias/ConcatPartitions/concat",
			m+l+"MultiheadAttention/output_transform_single/kernel/part_0",
			a+l+"MultiheadAttention/output_transform_single/bias/ConcatPartitions/concat",
			a+l+"FFN/layer_prepostprocess/layer_norm/layer_norm_scale/ConcatPartitions/concat",
			a+l+"FFN/layer_prepostprocess/layer_norm/layer_norm_bias/ConcatPartitions/concat",
			a+"TransformerStack/"+l+"FFN/conv1/Tensordot/Reshape_1",
			a+l+"FFN/conv1/bias/ConcatPartitions/concat",
			a+"TransformerStack/"+l+"FFN/conv2/Tensordot/Reshape_1",
			a+l+"FFN/conv2/bias/ConcatPartitions/concat",
		)
	}
	return append(names,
		"module/Encoder_en/hidden_layers/tanh_layer_0/weights",
		"module/Encoder_en/hidden_layers/tanh_layer_0/bias",
	)
}

// pack reads the shards that model (model.json) lists and returns encoder.bin.
func pack(dir string, model []byte) ([]byte, error) {
	var doc struct {
		WeightsManifest []struct {
			Paths   []string `json:"paths"`
			Weights []tensor `json:"weights"`
		} `json:"weightsManifest"`
	}
	if err := json.Unmarshal(model, &doc); err != nil {
		return nil, err
	}
	var stream []byte
	for _, p := range doc.WeightsManifest[0].Paths {
		b, err := os.ReadFile(filepath.Join(dir, filepath.Base(p)))
		if err != nil {
			return nil, err
		}
		stream = append(stream, b...)
	}
	if err := check("joined shards", stream, weightsSum); err != nil {
		return nil, err
	}
	byName := map[string]tensor{}
	at := 0
	for _, t := range doc.WeightsManifest[0].Weights {
		t.offset, t.elements = at, 1
		for _, n := range t.Shape {
			t.elements *= n
		}
		at += 4 * t.elements
		byName[t.Name] = t
	}
	if at != len(stream) {
		return nil, fmt.Errorf("manifest describes %d bytes of %d", at, len(stream))
	}

	names := order()
	var payload bytes.Buffer
	for _, name := range names {
		t, ok := byName[name]
		if !ok || t.Dtype != "float32" {
			return nil, fmt.Errorf("no float32 tensor %s", name)
		}
		writeTensor(&payload, t, stream[t.offset:t.offset+4*t.elements])
	}
	var out bytes.Buffer
	out.WriteString(magic)
	put32(&out, version)
	put32(&out, len(names))
	sum := sha256.Sum256(payload.Bytes())
	out.Write(sum[:])
	out.Write(payload.Bytes())
	return out.Bytes(), nil
}

// writeTensor writes t without its leading dimensions of 1.
func writeTensor(w *bytes.Buffer, t tensor, raw []byte) {
	shape := t.Shape
	for len(shape) > 1 && shape[0] == 1 {
		shape = shape[1:]
	}
	kind := byte(kindFloat32)
	if len(shape) > 1 {
		kind = kindInt16
	}
	w.WriteByte(kind)
	w.WriteByte(byte(len(shape)))
	for _, n := range shape {
		put32(w, n)
	}
	if kind == kindFloat32 {
		w.Write(raw)
		return
	}
	for row := 4 * shape[len(shape)-1]; len(raw) > 0; raw = raw[row:] {
		writeRow(w, raw[:row])
	}
}

// writeRow writes a row's scale, then its elements divided by it.
func writeRow(w *bytes.Buffer, raw []byte) {
	row := make([]float64, len(raw)/4)
	top := 0.0
	for i := range row {
		row[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
		top = max(top, math.Abs(row[i]))
	}
	scale := float32(top / math.MaxInt16)
	if scale == 0 {
		scale = 1
	}
	w.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(scale)))
	for _, f := range row {
		q := min(max(math.RoundToEven(f/float64(scale)), -math.MaxInt16), math.MaxInt16)
		w.Write(binary.LittleEndian.AppendUint16(nil, uint16(int16(q))))
	}
}

func put32(w *bytes.Buffer, n int) {
	w.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
}
