package io.apidae.java;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/**
 * Puts code before that of methods of a class file (The Java Virtual Machine Specification, chapter 4).
 *
 * <p>The code that was there stays byte for byte: what is put before it has a multiple of four bytes, so jumps and
 * switches stay right. Only what counts from the start of the code moves: exceptions, line numbers and the first stack
 * map frame. Attributes that a debugger alone needs are left out.
 */
final class ClassFile {
  private static final String HOOKS = "io/apidae/java/Hooks";
  private static final String OUTER = "this$0";

  private final byte[] content;
  private final String[] names; // Utf8 constants by number.
  private final int[] classNames; // Of Class constants: the number of their name.
  private final int constantsEnd;
  private int constants;
  private final ByteArrayOutputStream added = new ByteArrayOutputStream();
  private final DataOutputStream more = new DataOutputStream(added);

  ClassFile(byte[] content) throws IOException {
    this.content = content;
    DataInputStream in = open(8);
    constants = in.readUnsignedShort();
    names = new String[constants];
    classNames = new int[constants];
    for (int number = 1; number < constants; number++) {
      int tag = in.readUnsignedByte();
      switch (tag) {
        case 1: names[number] = in.readUTF(); break;
        case 7: classNames[number] = in.readUnsignedShort(); break;
        case 8: case 16: case 19: case 20: in.readUnsignedShort(); break;
        case 3: case 4: case 9: case 10: case 11: case 12: case 17: case 18: in.readInt(); break;
        case 5: case 6: in.readLong(); number++; break; // Two numbers.
        case 15: in.readUnsignedByte(); in.readUnsignedShort(); break;
        default: throw new IOException("constant of kind " + tag);
      }
    }
    constantsEnd = content.length - in.available();
  }

  private DataInputStream open(int at) {
    return new DataInputStream(new ByteArrayInputStream(content, at, content.length - at));
  }

  /** The class with these patches; throws where it lacks one of the methods. */
  byte[] patch(List<Patch> patches) throws IOException {
    DataInputStream in = open(constantsEnd);
    ByteArrayOutputStream rest = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(rest);
    copy(in, out, 2);
    int self = in.readUnsignedShort();
    out.writeShort(self);
    copy(in, out, 2);
    int interfaces = copyCount(in, out);
    copy(in, out, 2 * interfaces);
    String outer = null;
    for (int fields = copyCount(in, out); fields > 0; fields--) {
      copy(in, out, 2);
      int name = copyCount(in, out), descriptor = copyCount(in, out);
      if (OUTER.equals(names[name])) outer = names[descriptor];
      for (int attributes = copyCount(in, out); attributes > 0; attributes--) copyAttribute(in, out);
    }
    List<Patch> left = new ArrayList<>(patches);
    for (int methods = copyCount(in, out); methods > 0; methods--) {
      copy(in, out, 2);
      int name = copyCount(in, out), descriptor = copyCount(in, out);
      Patch patch = find(left, names[name], names[descriptor]);
      for (int attributes = copyCount(in, out); attributes > 0; attributes--) {
        if (patch == null) {
          copyAttribute(in, out);
          continue;
        }
        int attribute = in.readUnsignedShort(), length = in.readInt();
        byte[] body = in.readNBytes(length);
        if ("Code".equals(names[attribute])) {
          body = patchCode(body, patch, self, outer);
          left.remove(patch);
        }
        out.writeShort(attribute);
        out.writeInt(body.length);
        out.write(body);
      }
    }
    if (!left.isEmpty()) throw new IOException("no method " + left.get(0).owner + "." + left.get(0).method + left.get(0).descriptor);
    out.write(in.readAllBytes());
    ByteArrayOutputStream whole = new ByteArrayOutputStream();
    whole.write(content, 0, 8);
    new DataOutputStream(whole).writeShort(constants);
    whole.write(content, 10, constantsEnd - 10);
    added.writeTo(whole);
    rest.writeTo(whole);
    return whole.toByteArray();
  }

  private static Patch find(List<Patch> patches, String name, String descriptor) {
    for (Patch patch : patches) if (patch.method.equals(name) && patch.descriptor.equals(descriptor)) return patch;
    return null;
  }

  private byte[] patchCode(byte[] attribute, Patch patch, int self, String outer) throws IOException {
    DataInputStream in = new DataInputStream(new ByteArrayInputStream(attribute));
    int stack = in.readUnsignedShort(), locals = in.readUnsignedShort(), length = in.readInt();
    byte[] code = in.readNBytes(length);
    byte[] first = patch.isAround ? makeChoice(patch, self, outer) : makeCall(patch);
    if (first.length + code.length > 65535) throw new IOException("the code of " + patch.method + " is too long");
    ByteArrayOutputStream made = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(made);
    out.writeShort(Math.max(stack, 8));
    out.writeShort(locals);
    out.writeInt(first.length + code.length);
    out.write(first);
    out.write(code);
    int exceptions = in.readUnsignedShort();
    out.writeShort(exceptions);
    for (; exceptions > 0; exceptions--) {
      for (int part = 0; part < 3; part++) out.writeShort(in.readUnsignedShort() + first.length);
      out.writeShort(in.readUnsignedShort());
    }
    ByteArrayOutputStream kept = new ByteArrayOutputStream();
    DataOutputStream attributes = new DataOutputStream(kept);
    int count = 0;
    boolean hasFrames = false;
    for (int left = in.readUnsignedShort(); left > 0; left--) {
      int name = in.readUnsignedShort();
      byte[] body = in.readNBytes(in.readInt());
      if ("LineNumberTable".equals(names[name])) body = moveLines(body, first.length);
      else if ("StackMapTable".equals(names[name])) body = moveFrames(body, first.length, patch.isAround);
      else continue;
      hasFrames |= "StackMapTable".equals(names[name]);
      writeAttribute(attributes, name, body);
      count++;
    }
    if (patch.isAround && !hasFrames) {
      writeAttribute(attributes, addUtf8("StackMapTable"), moveFrames(new byte[2], first.length, true));
      count++;
    }
    out.writeShort(count);
    kept.writeTo(out);
    return made.toByteArray();
  }

  /** {@code if (Hooks.isOutermost()) return Hooks.hook(this, ..);} */
  private byte[] makeChoice(Patch patch, int self, String outer) throws IOException {
    ByteArrayOutputStream made = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(made);
    out.writeByte(0x2a); // aload_0
    if (patch.hasOuter) {
      if (outer == null) throw new IOException(patch.owner + " has no field " + OUTER);
      out.writeByte(0x2a);
      out.writeByte(0xb4); // getfield
      out.writeShort(addMember(9, self, OUTER, outer));
    }
    loadArguments(out, patch);
    out.writeByte(0xb8); // invokestatic
    out.writeShort(addHook(patch.hook, patch.hookDescriptor));
    char returned = patch.descriptor.charAt(patch.descriptor.indexOf(')') + 1);
    out.writeByte(returned == 'V' ? 0xb1 : returned == 'I' ? 0xac : 0xb0); // return, ireturn, areturn
    byte[] chosen = made.toByteArray();
    int length = 6 + chosen.length, padding = -length & 3;
    ByteArrayOutputStream whole = new ByteArrayOutputStream();
    DataOutputStream choice = new DataOutputStream(whole);
    choice.writeByte(0xb8);
    choice.writeShort(addHook("isOutermost", "()Z"));
    choice.writeByte(0x99); // ifeq, to the code that was there
    choice.writeShort(3 + chosen.length + padding);
    // What pads stands where it is run, before the return: behind it nothing may stand without a frame.
    choice.write(chosen, 0, chosen.length - 1);
    for (; padding > 0; padding--) choice.writeByte(0);
    choice.write(chosen, chosen.length - 1, 1);
    return whole.toByteArray();
  }

  /** {@code Hooks.hook(this, ..);} */
  private byte[] makeCall(Patch patch) throws IOException {
    ByteArrayOutputStream made = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(made);
    out.writeByte(0x2a);
    loadArguments(out, patch);
    out.writeByte(0xb8);
    out.writeShort(addHook(patch.hook, patch.hookDescriptor));
    while (made.size() % 4 != 0) out.writeByte(0);
    return made.toByteArray();
  }

  private static void loadArguments(DataOutputStream out, Patch patch) throws IOException {
    String descriptor = patch.descriptor;
    for (int at = 1, local = 1; descriptor.charAt(at) != ')'; at++, local++) {
      boolean isReference = descriptor.charAt(at) == '[' || descriptor.charAt(at) == 'L';
      if (!isReference && descriptor.charAt(at) != 'I') throw new IOException("argument of " + patch.method);
      out.writeByte(isReference ? 0x19 : 0x15); // aload, iload
      out.writeByte(local);
      while (descriptor.charAt(at) == '[') at++;
      if (descriptor.charAt(at) == 'L') at = descriptor.indexOf(';', at);
    }
  }

  private static byte[] moveLines(byte[] table, int by) throws IOException {
    DataInputStream in = new DataInputStream(new ByteArrayInputStream(table));
    ByteArrayOutputStream made = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(made);
    for (int left = copyCount(in, out); left > 0; left--) {
      out.writeShort(in.readUnsignedShort() + by);
      copy(in, out, 2);
    }
    return made.toByteArray();
  }

  /** A frame counts from the one before it, the first from the start. `hasNew`: one comes where the old code begins. */
  private static byte[] moveFrames(byte[] table, int by, boolean hasNew) throws IOException {
    DataInputStream in = new DataInputStream(new ByteArrayInputStream(table));
    ByteArrayOutputStream made = new ByteArrayOutputStream();
    DataOutputStream out = new DataOutputStream(made);
    int frames = in.readUnsignedShort();
    boolean isAdded = hasNew && (frames == 0 || readDelta(table) > 0); // Else the old code begins with a frame.
    out.writeShort(frames + (isAdded ? 1 : 0));
    if (isAdded) writeSame(out, by);
    for (int number = 0; number < frames; number++) {
      int kind = in.readUnsignedByte();
      int delta = kind < 64 ? kind : kind < 128 ? kind - 64 : in.readUnsignedShort();
      if (number == 0) delta = isAdded ? delta - 1 : delta + by;
      out.writeByte(kind < 64 ? 251 : kind < 128 ? 247 : kind); // The same kinds with a wide delta.
      out.writeShort(delta);
      if (kind >= 64 && kind < 128 || kind == 247) {
        moveTypes(in, out, 1, by);
      } else if (kind == 255) {
        moveTypes(in, out, copyCount(in, out), by);
        moveTypes(in, out, copyCount(in, out), by);
      } else if (kind > 251) {
        moveTypes(in, out, kind - 251, by);
      } else if (kind >= 128 && kind < 247) {
        throw new IOException("stack map frame of kind " + kind);
      }
    }
    return made.toByteArray();
  }

  /** Of the first frame. */
  private static int readDelta(byte[] table) {
    int kind = table[2] & 255;
    return kind < 128 ? kind & 63 : (table[3] & 255) << 8 | table[4] & 255;
  }

  private static void moveTypes(DataInputStream in, DataOutputStream out, int count, int by) throws IOException {
    for (; count > 0; count--) {
      int type = in.readUnsignedByte();
      out.writeByte(type);
      if (type == 7) copy(in, out, 2); // An object of a class.
      if (type == 8) out.writeShort(in.readUnsignedShort() + by); // What the instruction there makes.
    }
  }

  private static void writeSame(DataOutputStream out, int delta) throws IOException {
    out.writeByte(251); // same_frame_extended
    out.writeShort(delta);
  }

  private static void writeAttribute(DataOutputStream out, int name, byte[] body) throws IOException {
    out.writeShort(name);
    out.writeInt(body.length);
    out.write(body);
  }

  private int addUtf8(String text) throws IOException {
    for (int number = 1; number < names.length; number++) if (text.equals(names[number])) return number;
    more.writeByte(1);
    more.writeUTF(text);
    return constants++;
  }

  private int addHook(String name, String descriptor) throws IOException {
    int text = addUtf8(HOOKS);
    more.writeByte(7);
    more.writeShort(text);
    return addMember(10, constants++, name, descriptor);
  }

  /** `tag`: 9 for a field, 10 for a method. */
  private int addMember(int tag, int owner, String name, String descriptor) throws IOException {
    int one = addUtf8(name), two = addUtf8(descriptor);
    more.writeByte(12);
    more.writeShort(one);
    more.writeShort(two);
    int both = constants++;
    more.writeByte(tag);
    more.writeShort(owner);
    more.writeShort(both);
    return constants++;
  }

  private static int copyCount(DataInputStream in, DataOutputStream out) throws IOException {
    int count = in.readUnsignedShort();
    out.writeShort(count);
    return count;
  }

  private static void copy(DataInputStream in, DataOutputStream out, int bytes) throws IOException {
    out.write(in.readNBytes(bytes));
  }

  private static void copyAttribute(DataInputStream in, DataOutputStream out) throws IOException {
    copy(in, out, 2);
    int length = in.readInt();
    out.writeInt(length);
    copy(in, out, length);
  }
}
