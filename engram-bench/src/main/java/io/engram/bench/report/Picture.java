// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Font;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.geom.Ellipse2D;
import java.awt.geom.Line2D;
import java.awt.geom.Path2D;
import java.awt.geom.RoundRectangle2D;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import javax.imageio.ImageIO;

/**
 * A drawing as data, written as SVG or as PNG: the same shapes in both, without a library that
 * would have to be trusted to agree with itself.
 *
 * @param width in points
 * @param height in points
 * @param title what a screen reader says
 * @param shapes from the back to the front
 */
public record Picture(int width, int height, String title, List<Shape> shapes) {
  /** Average advance of a sans serif letter, in em: on the wide side, so that texts fit. */
  private static final double ADVANCE = 0.57;

  private static final double BOLD_ADVANCE = 0.62;
  private static final String FONTS =
      "-apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif";

  /** Where a text is held. */
  public enum Anchor {
    /** At its beginning. */
    START,
    /** In its middle. */
    MIDDLE,
    /** At its end. */
    END
  }

  /** A thing to draw; colours are {@code 0xAARRGGBB}. */
  public sealed interface Shape {}

  /**
   * A line.
   *
   * @param x1 from
   * @param y1 from
   * @param x2 to
   * @param y2 to
   * @param colour colour
   * @param width width of the stroke
   * @param dashed whether it is dashed
   */
  public record Line(
      double x1, double y1, double x2, double y2, int colour, double width, boolean dashed)
      implements Shape {}

  /**
   * A filled box.
   *
   * @param x left
   * @param y top
   * @param width width
   * @param height height
   * @param radius of its corners
   * @param colour colour
   */
  public record Box(double x, double y, double width, double height, double radius, int colour)
      implements Shape {}

  /**
   * A filled circle with a white rim.
   *
   * @param x centre
   * @param y centre
   * @param radius radius
   * @param colour colour
   */
  public record Dot(double x, double y, double radius, int colour) implements Shape {}

  /**
   * A line through points, or the area that it surrounds.
   *
   * @param points x and y of each
   * @param colour colour
   * @param width width of the stroke, 0 to fill
   */
  public record Trail(List<double[]> points, int colour, double width) implements Shape {}

  /**
   * A text.
   *
   * @param x where it is held
   * @param y its base line
   * @param text the text
   * @param size of its letters
   * @param bold whether it is bold
   * @param colour colour
   * @param anchor what is at x
   */
  public record Text(
      double x, double y, String text, double size, boolean bold, int colour, Anchor anchor)
      implements Shape {}

  /** Copies the shapes. */
  public Picture {
    shapes = List.copyOf(shapes);
  }

  /**
   * About how wide a text is. The fonts of who looks at it are not known.
   *
   * @param text the text
   * @param size of its letters
   * @param bold whether it is bold
   * @return points
   */
  static double width(String text, double size, boolean bold) {
    return text.codePointCount(0, text.length()) * size * (bold ? BOLD_ADVANCE : ADVANCE);
  }

  /**
   * The drawing as SVG.
   *
   * @return a document that shows nothing from elsewhere and runs nothing
   */
  public String svg() {
    StringBuilder out = new StringBuilder();
    out.append(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n"
            .formatted(width, height, width, height));
    out.append("<title>").append(escaped(title)).append("</title>\n");
    out.append("<g font-family=\"").append(FONTS).append("\">\n");
    for (Shape shape : shapes) {
      out.append(
          switch (shape) {
            case Line l ->
                "<line x1=\"%s\" y1=\"%s\" x2=\"%s\" y2=\"%s\" %s stroke-width=\"%s\"%s/>"
                    .formatted(
                        point(l.x1),
                        point(l.y1),
                        point(l.x2),
                        point(l.y2),
                        paint("stroke", l.colour),
                        point(l.width),
                        l.dashed ? " stroke-dasharray=\"4 3\"" : "");
            case Box b ->
                "<rect x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\" rx=\"%s\" %s/>"
                    .formatted(
                        point(b.x),
                        point(b.y),
                        point(b.width),
                        point(b.height),
                        point(b.radius),
                        paint("fill", b.colour));
            case Dot d ->
                "<circle cx=\"%s\" cy=\"%s\" r=\"%s\" %s stroke=\"#ffffff\" stroke-width=\"1.5\"/>"
                    .formatted(point(d.x), point(d.y), point(d.radius), paint("fill", d.colour));
            case Trail t -> trail(t);
            case Text t ->
                "<text x=\"%s\" y=\"%s\" font-size=\"%s\"%s%s %s>%s</text>"
                    .formatted(
                        point(t.x),
                        point(t.y),
                        point(t.size),
                        t.bold ? " font-weight=\"600\"" : "",
                        t.anchor == Anchor.START
                            ? ""
                            : " text-anchor=\"" + t.anchor.name().toLowerCase(Locale.ROOT) + "\"",
                        paint("fill", t.colour),
                        escaped(t.text));
          });
      out.append('\n');
    }
    return out.append("</g>\n</svg>\n").toString();
  }

  private static String trail(Trail trail) {
    StringBuilder points = new StringBuilder();
    for (double[] at : trail.points) {
      points
          .append(points.isEmpty() ? "" : " ")
          .append(point(at[0]))
          .append(',')
          .append(point(at[1]));
    }
    return trail.width == 0
        ? "<polygon points=\"%s\" %s/>".formatted(points, paint("fill", trail.colour))
        : "<polyline points=\"%s\" fill=\"none\" %s stroke-width=\"%s\" stroke-linejoin=\"round\"/>"
            .formatted(points, paint("stroke", trail.colour), point(trail.width));
  }

  private static String point(double value) {
    String text = String.format(Locale.ROOT, "%.1f", value);
    return text.endsWith(".0") ? text.substring(0, text.length() - 2) : text;
  }

  private static String paint(String attribute, int colour) {
    int alpha = colour >>> 24;
    String paint = String.format(Locale.ROOT, "%s=\"#%06x\"", attribute, colour & 0xFFFFFF);
    return alpha == 255
        ? paint
        : paint + String.format(Locale.ROOT, " %s-opacity=\"%.2f\"", attribute, alpha / 255.0);
  }

  private static String escaped(String text) {
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
  }

  /**
   * The drawing as an image.
   *
   * @param scale pixels to a point
   * @return the image
   */
  public BufferedImage image(double scale) {
    BufferedImage image =
        new BufferedImage(
            (int) Math.ceil(width * scale),
            (int) Math.ceil(height * scale),
            BufferedImage.TYPE_INT_RGB);
    Graphics2D graphics = image.createGraphics();
    try {
      graphics.setRenderingHint(RenderingHints.KEY_ANTIALIASING, RenderingHints.VALUE_ANTIALIAS_ON);
      graphics.setRenderingHint(
          RenderingHints.KEY_TEXT_ANTIALIASING, RenderingHints.VALUE_TEXT_ANTIALIAS_ON);
      graphics.setRenderingHint(
          RenderingHints.KEY_STROKE_CONTROL, RenderingHints.VALUE_STROKE_PURE);
      graphics.setColor(Color.WHITE);
      graphics.fillRect(0, 0, image.getWidth(), image.getHeight());
      graphics.scale(scale, scale);
      for (Shape shape : shapes) {
        draw(graphics, shape);
      }
    } finally {
      graphics.dispose();
    }
    return image;
  }

  private static void draw(Graphics2D graphics, Shape shape) {
    switch (shape) {
      case Line l -> {
        graphics.setColor(new Color(l.colour, true));
        graphics.setStroke(
            l.dashed
                ? new BasicStroke(
                    (float) l.width,
                    BasicStroke.CAP_BUTT,
                    BasicStroke.JOIN_ROUND,
                    1,
                    new float[] {4, 3},
                    0)
                : new BasicStroke((float) l.width, BasicStroke.CAP_BUTT, BasicStroke.JOIN_ROUND));
        graphics.draw(new Line2D.Double(l.x1, l.y1, l.x2, l.y2));
      }
      case Box b -> {
        graphics.setColor(new Color(b.colour, true));
        graphics.fill(
            new RoundRectangle2D.Double(b.x, b.y, b.width, b.height, 2 * b.radius, 2 * b.radius));
      }
      case Dot d -> {
        Ellipse2D circle =
            new Ellipse2D.Double(d.x - d.radius, d.y - d.radius, 2 * d.radius, 2 * d.radius);
        graphics.setColor(new Color(d.colour, true));
        graphics.fill(circle);
        graphics.setColor(Color.WHITE);
        graphics.setStroke(new BasicStroke(1.5f));
        graphics.draw(circle);
      }
      case Trail t -> {
        Path2D path = new Path2D.Double();
        for (double[] at : t.points) {
          if (path.getCurrentPoint() == null) {
            path.moveTo(at[0], at[1]);
          } else {
            path.lineTo(at[0], at[1]);
          }
        }
        graphics.setColor(new Color(t.colour, true));
        if (t.width == 0) {
          path.closePath();
          graphics.fill(path);
        } else {
          graphics.setStroke(
              new BasicStroke((float) t.width, BasicStroke.CAP_ROUND, BasicStroke.JOIN_ROUND));
          graphics.draw(path);
        }
      }
      case Text t -> {
        graphics.setColor(new Color(t.colour, true));
        graphics.setFont(
            new Font(Font.SANS_SERIF, t.bold ? Font.BOLD : Font.PLAIN, 1)
                .deriveFont((float) t.size * 0.94f));
        double wide = graphics.getFontMetrics().getStringBounds(t.text, graphics).getWidth();
        double shift =
            switch (t.anchor) {
              case START -> 0;
              case MIDDLE -> wide / 2;
              case END -> wide;
            };
        graphics.drawString(t.text, (float) (t.x - shift), (float) t.y);
      }
    }
  }

  /**
   * Writes {@code NAME.svg} and {@code NAME.png}, the latter with two pixels to a point.
   *
   * @param directory where, made if it is not there
   * @param name the name without an ending
   * @throws IOException if one cannot be written
   */
  public void write(Path directory, String name) throws IOException {
    Files.createDirectories(directory);
    writeSvg(directory, name);
    try (OutputStream out = Files.newOutputStream(directory.resolve(name + ".png"))) {
      if (!ImageIO.write(image(2), "png", out)) {
        throw new IOException("this JDK writes no PNG");
      }
    }
  }

  /**
   * Writes {@code NAME.svg}.
   *
   * @param directory where
   * @param name the name without an ending
   * @throws IOException if it cannot be written
   */
  public void writeSvg(Path directory, String name) throws IOException {
    Files.createDirectories(directory);
    Files.writeString(directory.resolve(name + ".svg"), svg());
  }
}
